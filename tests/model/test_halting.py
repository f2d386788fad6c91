"""Tests of adaptive computation. Stopped positions are frozen. At a threshold of 1, none stops."""

import dataclasses

import pytest
import torch

from bit_transformer import BitTransformerLM
from bit_transformer.errors import ConfigError, UnsupportedCombination
from bit_transformer.model.halting import HaltingStack
from bit_transformer.objectives.causal import Causal, next_bit_loss
from tests.builders import tiny_model

LAYERS = 5


@pytest.fixture
def bits(generator):
    return torch.randint(0, 2, (3, 160), generator=generator)


def _frozen_by_hand(stack, x, context, cache=None):
    """Run every block on all positions. Only active positions take its result."""
    active = torch.ones(x.shape[:2], dtype=torch.bool)
    survival = torch.ones(x.shape[:2], dtype=x.dtype)
    for index, block in enumerate(stack):
        layer_cache = None if cache is None else cache.layers[index]
        x = torch.where(active[..., None], block(x, context, layer_cache), x)
        if index < LAYERS - 1:
            survival = survival * (1 - torch.sigmoid(stack.halting_logits(x, index)))
            active = active & (1 - survival < stack.threshold)
    return x


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_a_stopped_position_is_frozen_and_still_read_by_others(threshold, bits, monkeypatch):
    model = tiny_model(num_layers=LAYERS, use_act=True, act_threshold=threshold).double()
    model.network.stack.halting_bias.data.fill_(-1.5)
    found = model.log2_likelihood(bits)
    stops = model(bits)[1]["halt_probs"].cumsum(-1)[..., :-1] >= threshold
    assert stops.any()
    assert not stops.any(-1).all()
    monkeypatch.setattr(HaltingStack, "forward", _frozen_by_hand)
    torch.testing.assert_close(found, model.log2_likelihood(bits))


def test_a_threshold_that_never_halts_is_the_plain_stack(bits):
    halting = tiny_model(num_layers=LAYERS, use_act=True, act_threshold=1.0)
    plain = tiny_model(num_layers=LAYERS)
    # With this bias, the halting probability is exactly 1 in floating point.
    halting.network.stack.halting_bias.data.fill_(100.0)
    plain.network.load_state_dict(halting.network.state_dict(), strict=False)
    assert torch.equal(halting.log2_likelihood(bits), plain.log2_likelihood(bits))


def test_positions_that_stop_at_once_leave_only_keys_and_values(bits):
    model = tiny_model(num_layers=LAYERS, use_act=True)
    model.network.stack.halting_bias.data.fill_(100.0)
    model.network.stack.halting_weight.data.zero_()
    rows = []
    for block in model.network.stack:
        block.feed_forward.register_forward_hook(lambda *call: rows.append(call[1][0].shape[:-1]))
    model.log2_likelihood(bits)
    assert [shape.numel() for shape in rows] == [60, 0, 0, 0, 0]


def test_halting_probabilities_are_in_the_telemetry(bits):
    _, telemetry = tiny_model(num_layers=LAYERS, use_act=True)(bits)
    halting = telemetry["halt_probs"]
    # There is one position more than the 20 patches, because the start comes first.
    assert halting.shape == (3, 21, LAYERS)
    torch.testing.assert_close(halting.sum(-1), torch.ones(3, 21))
    assert halting[..., :-1].max() > 0.1


def test_the_loss_is_that_of_all_exits_and_mostly_of_the_last(bits):
    model = tiny_model(num_layers=LAYERS, use_act=True, act_threshold=1.0).double()
    kept, by_exit = model.network.stack.blocks, []
    for layers in range(1, LAYERS + 1):
        model.network.stack.blocks = kept[:layers]
        by_exit.append(-model.log2_likelihood(bits).sum() / (3 * 20))
    model.network.stack.blocks = kept
    expected = 0.7 * by_exit[-1] + 0.3 * torch.stack(by_exit[:-1]).mean()
    torch.testing.assert_close(next_bit_loss(model.network, bits), expected)
    priced = Causal().loss(model.network, bits)
    torch.testing.assert_close(priced, expected)


def test_the_halting_units_learn_apart_from_the_trunk(bits):
    model = tiny_model(num_layers=LAYERS, use_act=True, act_threshold=1.0).double()
    network, stack = model.network, model.network.stack

    def gradients(price):
        model.zero_grad()
        network.config = dataclasses.replace(network.config, ponder_cost=price)
        Causal().loss(network, bits).backward()
        return stack.halting_bias.grad.clone(), stack.blocks[0].feed_forward.up_proj.weight.grad

    free, priced = gradients(0.0), gradients(7.0)
    assert torch.equal(free[1], priced[1])
    layers = torch.arange(1, LAYERS + 1)
    halting = model(bits)[1]["halt_probs"][:, :20]
    depth = (halting * layers).sum(-1).mean() / LAYERS
    (of_depth,) = torch.autograd.grad(depth, stack.halting_bias)
    torch.testing.assert_close(priced[0] - free[0], 7 * of_depth)


def test_they_stop_earlier_where_going_on_costs_more(bits):
    def mean_depth(price):
        model = tiny_model(num_layers=LAYERS, use_act=True, ponder_cost=price).train()
        optimizer = torch.optim.Adam(model.network.stack.parameters(), lr=0.01)
        for _ in range(30):
            optimizer.zero_grad()
            Causal().loss(model.network, bits).backward()
            optimizer.step()
        halting = model(bits)[1]["halt_probs"].detach()
        return float((halting * torch.arange(1, LAYERS + 1)).sum(-1).mean())

    assert mean_depth(100.0) < mean_depth(0.0) - 0.5


def test_impossible_settings():
    with pytest.raises(ConfigError, match=r"act_threshold must be in \(0, 1\], got 0"):
        BitTransformerLM(use_act=True, act_threshold=0.0)
    with pytest.raises(UnsupportedCombination, match="with use_act, set use_checkpoint"):
        BitTransformerLM(use_act=True, reversible=True)
