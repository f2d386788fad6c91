"""Tests of the optimizer: each weight has one optimizer, and its state can be restored."""

import sys

import pytest
import torch
from torch.optim import AdamW, SparseAdam

from bit_transformer import adjust_learning_rate, configure_optimizer
from bit_transformer.errors import CheckpointMismatchError, MissingExtraError
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.training.config import OptimizerConfig
from bit_transformer.training.muon import FastMuon
from bit_transformer.training.optimizer import build_optimizer, gradient_norm
from tests.builders import tiny_model


def _train(model, optimizer, steps=20):
    bits = torch.randint(0, 2, (4, 64), generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = next_bit_loss(model.network, bits)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_every_weight_has_exactly_one_optimizer():
    model = tiny_model()
    optimizer = build_optimizer(model.network, OptimizerConfig())
    assert {name: type(part) for name, part in optimizer.parts.items()} == {
        "matrices": FastMuon,
        "rest": AdamW,
        "memory": SparseAdam,
    }
    owned = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(owned) == sorted(id(weight) for weight in model.parameters())
    dense = {id(weight) for weight in optimizer.dense_parameters()}
    assert set(owned) - dense == {id(model.network.memory.rows.weight)}


@pytest.mark.parametrize("name", ["muon", "adamw", "lion", "adafactor"])
@pytest.mark.parametrize("memory_bits", [(), (16, 24)])
def test_every_optimizer_learns(name, memory_bits):
    model = tiny_model(memory_bits=memory_bits).train()
    config = OptimizerConfig(optimizer=name, weight_decay=0.01)
    losses = _train(model, build_optimizer(model.network, config))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["muon", "adamw", "lion", "adafactor"])
def test_a_restored_optimizer_goes_on_exactly(name):
    config = OptimizerConfig(optimizer=name)
    whole = tiny_model().train()
    expected = _train(whole, build_optimizer(whole.network, config), steps=6)
    first = tiny_model().train()
    before = build_optimizer(first.network, config)
    _train(first, before, steps=3)
    second = tiny_model(seed=1).train()
    second.load_state_dict(first.state_dict())
    after = build_optimizer(second.network, config)
    after.load_state_dict(before.state_dict())
    assert _train(second, after, steps=3) == expected[3:]


def test_a_checkpoint_of_other_parts_is_refused():
    with_memory = build_optimizer(tiny_model().network, OptimizerConfig())
    without = build_optimizer(tiny_model(memory_bits=()).network, OptimizerConfig())
    with pytest.raises(CheckpointMismatchError, match="memory"):
        without.load_state_dict(with_memory.state_dict())


def test_the_documented_helpers():
    optimizer, schedule = configure_optimizer(tiny_model(), lr=0.01, total_steps=10)
    optimizer.scale_rates(schedule(1))
    base = [group["base_lr"] for group in optimizer.param_groups]
    assert adjust_learning_rate(optimizer, 0.5) == pytest.approx(0.01 * schedule(1) / 2)
    assert [group["base_lr"] for group in optimizer.param_groups] == [rate / 2 for rate in base]
    plain = AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    assert adjust_learning_rate(plain, 0.1) == pytest.approx(0.02)


def test_clipping_limits_the_joint_norm():
    weights = [torch.nn.Parameter(torch.zeros(3)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.full((3,), 2.0)
    assert gradient_norm(weights, 0).item() == pytest.approx(24**0.5)
    assert gradient_norm(weights, 1.0).item() == pytest.approx(24**0.5)
    assert torch.stack([weight.grad for weight in weights]).norm().item() == pytest.approx(1, 1e-4)


def test_lion_names_its_extra_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(MissingExtraError, match=r"bit-transformer\[optimizers\]"):
        build_optimizer(tiny_model().network, OptimizerConfig(optimizer="lion"))
