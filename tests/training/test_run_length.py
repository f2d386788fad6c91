"""Run-length coding does not change a whole run, and resuming such a run is exact."""

import dataclasses

import torch

from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.fit import train_run


def _coded(config, **shares):
    return dataclasses.replace(config, objective=ObjectiveConfig(**shares))


def test_batches_by_way_of_run_lengths_give_the_same_run(settings, tmp_path):
    weights = []
    for name, share in (("coded", 1.0), ("also", 0.7)):
        config = _coded(settings(), compress_prob=share, ramp=0.0)
        result = train_run(config, tmp_path / name, progress=False)
        weights.append(result.model.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_resumed_run_draws_the_same_batches(settings, tmp_path):
    config = _coded(settings(), direct_prob=0.5, ramp=0.3)
    whole = train_run(config, tmp_path / "whole", progress=False)
    half = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=12))

    class _Stop(Callback):
        def on_step_end(self, trainer, record) -> None:
            if record.step == 8:
                trainer.request_stop()

    train_run(half, tmp_path / "cut", progress=False, callbacks=[_Stop()])
    resumed = train_run(config, tmp_path / "cut", resume=True, progress=False)
    assert resumed.steps == 12
    for key, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[key]), key
