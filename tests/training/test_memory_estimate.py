"""Tests of the estimate of the memory that a run needs. It is made with fake tensors."""

import dataclasses
import json
import time

import pytest
import torch

from bit_transformer import ModelConfig, OptimizerConfig, RunConfig, TrainConfig
from bit_transformer.cli.main import main
from bit_transformer.errors import ConfigError
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.training.config import parse_bytes
from bit_transformer.training.fit import train_run
from bit_transformer.training.memory_estimate import (
    _need,
    _rough_need,
    estimate_inference,
    estimate_training,
    fit_into_budget,
    require_memory,
)
from bit_transformer.training.run_folder import RunFolder

MODEL = ModelConfig(
    d_model=32, nhead=2, num_layers=3, dim_feedforward=64, max_seq_len=512, memory_slots=256
)


def _run(model=None, **train):
    settings = {"batch_size": 4, "precision": "fp32", "device": "cpu", "telemetry_every": 0}
    config = dataclasses.replace(MODEL, **(model or {}))
    sections = {"model": config.to_dict(), "train": settings | train}
    return dataclasses.replace(
        RunConfig.from_dict(sections), optimizer=OptimizerConfig(optimizer="adamw")
    )


def test_weights_and_optimizer_states_are_what_they_are():
    network = BitTransformer(MODEL)
    weights = sum(weight.nbytes for weight in network.parameters())
    buffers = sum(buffer.nbytes for buffer in network.buffers())
    steps = 4 * (len(list(network.parameters())) - 1)
    found = estimate_training(_run())
    assert found.parameters == weights + buffers
    # AdamW keeps two moments and a counter for each weight, and SparseAdam keeps two moments.
    assert found.optimizer == 2 * weights + steps
    dense = weights - network.memory.rows.weight.nbytes
    assert found.gradients >= dense
    assert found.peak > found.parameters + found.optimizer + found.activations
    assert estimate_inference(MODEL)[0] == weights + buffers


def test_activations_are_what_a_real_pass_keeps():
    network, kept = BitTransformer(MODEL).train(), {}
    own = {
        weight.untyped_storage()._cdata for weight in (*network.parameters(), *network.buffers())
    }

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        next_bit_loss(network, torch.zeros(4, 512, dtype=torch.uint8))
    found = estimate_training(_run()).activations
    # The estimate also counts a few tensors that are alive but not kept for the backward pass.
    assert sum(kept.values()) <= found < 1.1 * sum(kept.values())


@pytest.mark.parametrize(
    "model", [{}, {"reversible": True}, {"use_act": True}, {"chunk_size": 128, "overlap": 64}]
)
def test_twice_the_windows_are_twice_the_activations(model):
    one, two = (estimate_training(_run(model, batch_size=n)).activations for n in (4, 8))
    assert 1.8 < two / one < 2.05


def test_features_that_save_memory_do():
    deep = {"num_layers": 8}
    plain = estimate_training(_run(deep)).activations
    assert estimate_training(_run(deep, use_checkpoint=True)).activations < plain / 3
    assert estimate_training(_run(deep | {"reversible": True})).activations < plain / 3
    copies = estimate_training(_run(weight_average=0.9, max_recoveries=1))
    assert copies.copies == 3 * copies.parameters + 2 * copies.optimizer


def test_a_budget_picks_the_micro_batches_and_is_saved_with_the_run(tmp_path):
    config = _run({"max_seq_len": 4096}, steps=1, batch_size=8)
    peaks = {}
    for accumulate in (1, 2, 4, 8):
        train = dataclasses.replace(config.train, accumulate=accumulate)
        peaks[accumulate] = estimate_training(dataclasses.replace(config, train=train)).peak
    assert peaks[1] > peaks[2] > peaks[4] > peaks[8]

    def within(budget):
        train = dataclasses.replace(config.train, memory_budget=str(budget))
        return dataclasses.replace(config, train=train)

    assert fit_into_budget(config) == config
    for accumulate, peak in peaks.items():
        assert fit_into_budget(within(peak)).train.accumulate == accumulate
    with pytest.raises(ConfigError, match=r"one window at a time needs .* --reversible or"):
        fit_into_budget(within(peaks[8] - 1))
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 64)
    chosen = within(peaks[4])
    chosen = dataclasses.replace(
        chosen, data=dataclasses.replace(chosen.data, sources=(str(data),))
    )
    train_run(chosen, tmp_path / "run", progress=False)
    assert RunFolder(tmp_path / "run").config().train.accumulate == 4


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 << 30), ("500 MB", 500 << 20), ("1.5k", 1536), ("77", 77), (" 2 t ", 2 << 40)],
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "1 GiB of memory"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="memory_budget must be a size such as 8GiB"):
        TrainConfig(memory_budget=text)


def test_the_command_tells_it(capsys):
    assert main(["memory", "--json", "--memory-budget", "300MB"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["peak"] <= 300 << 20
    assert main(["memory"]) == 0
    assert "peak of a training step" in capsys.readouterr().out
    assert main(["memory", "--memory-budget", "1MB"]) == 2


@pytest.mark.parametrize(
    ("model", "train"),
    [
        ({}, {"batch_size": 10**9}),
        ({}, {"batch_size": 10**18}),
        ({"num_layers": 1000, "d_model": 8192, "dim_feedforward": 32768}, {}),
        ({"d_model": 1 << 17, "dim_feedforward": 1 << 18}, {}),
        ({"max_seq_len": 1 << 30}, {}),
        ({}, {"batch_size": 10**9, "memory_budget": "900TiB"}),
    ],
)
def test_what_clearly_cannot_fit_is_refused_before_anything_is_made(model, train, tmp_path):
    began = time.monotonic()
    with pytest.raises(
        ConfigError, match=r"(EiB|PiB|TiB) of memory and there are .*iB: batch_size"
    ):
        train_run(_run(model, **train), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    assert time.monotonic() - began < 60


def test_the_limit_can_be_given_and_is_named():
    config = _run(batch_size=64)
    need = estimate_training(config).peak
    require_memory(config, need)
    with pytest.raises(ConfigError, match="batch_size=64 in accumulate=1 micro-batches"):
        require_memory(config, need - 1)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"num_layers": 40},
        {"use_act": True, "dropout": 0.1, "memory_dropout": 0.1},
        {"chunk_size": 128, "overlap": 64},
        {"patch_size": 1, "memory_bits": (16,)},
        {"patch_size": 12, "memory_bits": (12, 24)},
        {"memory_slots": 1 << 20, "memory_bits": tuple(range(8, 200, 8))},
        {"d_model": 8, "dim_feedforward": 8},
    ],
)
@pytest.mark.parametrize("train", [{}, {"batch_size": 512}, {"max_recoveries": 1}])
def test_the_rough_need_is_never_below_the_need(model, train):
    config = _run(model, weight_average=0.9, **train)
    need = _need(config, 1 << 60)
    assert need <= _rough_need(config)
    if config.model.num_layers > 8:
        assert need == pytest.approx(estimate_training(config).peak, rel=0.05)


def test_many_divisors_take_no_time():
    config = _run(batch_size=735_134_400, memory_budget="300MB")
    assert fit_into_budget(config).train.accumulate > 1000
