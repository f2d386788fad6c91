"""Run-length coded batches in a whole run: the ramp follows the step, coding changes nothing."""

import dataclasses
import json

import pytest
import torch

from bit_transformer.objectives.config import RunLengthConfig
from bit_transformer.objectives.run_length import RunLengthObjective
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.callbacks.run_length_ramp import RunLengthRamp
from bit_transformer.training.fit import train_run


class _Seen(Callback):
    """What the ramp had reached before each step."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def on_step_end(self, trainer, record) -> None:
        self.shares.append(trainer.objective.reached)


def _losses(folder) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def _coded(config, **shares):
    return dataclasses.replace(config, run_length=RunLengthConfig(**shares))


def test_the_share_rises_along_half_a_cosine_and_stays(settings, tmp_path):
    seen = _Seen()
    config = _coded(settings(), direct_prob=0.5, ramp=0.5)
    train_run(config, tmp_path / "run", progress=False, callbacks=[seen])
    expected = [0.067, 0.25, 0.5, 0.75, 0.933, 1, 1, 1, 1, 1, 1, 1]
    assert seen.shares == pytest.approx(expected, abs=1e-3)


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


def test_without_a_ramp_the_whole_share_is_there_at_once():
    objective = RunLengthObjective(lambda network, bits: torch.zeros(()), RunLengthConfig())
    assert objective.reached == 1.0
    assert RunLengthRamp(objective, RunLengthConfig(ramp=0.0)).state_dict() == {}
