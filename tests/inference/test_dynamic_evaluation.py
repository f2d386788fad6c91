"""Tests of dynamic evaluation: gradient descent on what was predicted, and no later bit."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from bit_transformer.errors import ConfigError, UnsupportedCombination
from bit_transformer.inference.dynamic_evaluation import AdaptiveHead, adaptive_likelihood
from bit_transformer.inference.score import stream_likelihood
from bit_transformer.model.norm import rms_norm
from bit_transformer.quantization import quantized
from tests.builders import tiny_model

_TEXT = np.frombuffer(b"hello there again, and again, hello there. " * 12, np.uint8)
_SETTINGS = {
    "plain": {},
    "capped": {"logit_cap": 4.0},
    "half bytes": {"patch_size": 4},
    "parity": {"patch_size": 9, "parity": True},
    "halting": {"stack": "halting"},
    "leaves": {"leaf_logits": True, "logit_cap": 4.0},
    "leaves and parity": {"leaf_logits": True, "patch_size": 9, "parity": True},
    "chunks": {"attention": "overlapping chunks", "patch_size": 2},
}


def _read(model, data=_TEXT, **settings):
    parts = list(adaptive_likelihood(model.network, [data], 32, 16, **settings))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


@pytest.mark.parametrize("settings", _SETTINGS.values(), ids=_SETTINGS)
def test_a_rate_of_zero_is_the_static_head(settings):
    model = tiny_model(**settings)
    static, adaptive = _read(model, rate=0.0)
    np.testing.assert_allclose(adaptive, static, atol=1e-5)
    expected = np.concatenate(list(stream_likelihood(model.network, [_TEXT], 32, 16)))[:, :8]
    np.testing.assert_allclose(static, expected, atol=1e-5)


@pytest.mark.parametrize("learns", ["head", "memory"])
@pytest.mark.parametrize("settings", _SETTINGS.values(), ids=_SETTINGS)
def test_it_learns_and_leaves_the_network_as_it_is(settings, learns):
    model = tiny_model(**settings)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    static, adaptive = _read(model, learns=learns)
    assert -adaptive[100:].sum() < -0.8 * static[100:].sum()
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(weight.requires_grad for weight in model.parameters())


def test_rows_of_the_memory_learn_too():
    model = tiny_model()
    _, head = _read(model)
    _, both = _read(model, learns="memory", rate=0.0)
    static, _ = _read(model, rate=0.0)
    assert -both[200:].sum() < -0.95 * static[200:].sum()
    assert not np.array_equal(both, head)


@pytest.mark.parametrize("cap", [0.0, 4.0])
def test_a_step_is_gradient_descent_on_the_code_length(cap):
    network = tiny_model(logit_cap=cap).network
    states = rms_norm(torch.randn(2, 16, dtype=torch.float64))
    value, rate = 0b01100101, 0.3
    nodes = network.head.nodes.detach().double().requires_grad_()
    path = [(256 + value) >> (8 - depth) for depth in range(8)]
    bits = torch.tensor([(value >> (7 - depth)) & 1 for depth in range(8)], dtype=torch.float64)

    def logits(state: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        found = weights[path] @ state
        return cap * torch.tanh(found / cap) if cap else found

    loss = functional.binary_cross_entropy_with_logits(
        logits(states[0], nodes), bits, reduction="sum"
    )
    (gradient,) = torch.autograd.grad(loss, nodes)
    expected = logits(states[1], nodes - rate / 16 * gradient)
    head = AdaptiveHead(network, rate)
    found = head.read(states.float().numpy(), np.array([value, value]))
    np.testing.assert_allclose(found[1], expected.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("learns", ["head", "memory"])
def test_no_prediction_depends_on_a_later_bit(learns):
    model, at = tiny_model(), 301
    changed = _TEXT.copy()
    changed[at] ^= 1
    (_, first), (_, second) = _read(model, learns=learns), _read(model, changed, learns=learns)
    assert np.array_equal(first[:at], second[:at])
    assert np.array_equal(first[at, :7], second[at, :7])
    assert 2.0 ** first[at, 7] + 2.0 ** second[at, 7] == pytest.approx(1, abs=1e-5)
    assert not np.array_equal(first[at + 1 :], second[at + 1 :])


@pytest.mark.parametrize("learns", ["head", "memory"])
def test_how_data_is_cut_into_pieces_changes_nothing(learns):
    model = tiny_model()
    _, whole = _read(model, learns=learns)
    pieces = np.split(_TEXT, [1, 2, 33, 300])
    found = adaptive_likelihood(model.network, pieces, 32, 16, learns=learns)
    parts = [part.adaptive for part in found]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


def test_its_limits_are_errors():
    model = tiny_model()
    for rate in (-0.1, 2.5, math.nan):
        with pytest.raises(ConfigError, match="rate must be"):
            AdaptiveHead(model.network, rate)
    with pytest.raises(UnsupportedCombination, match="patches of 3 bits cross bytes"):
        _read(tiny_model(patch_size=3))
    with pytest.raises(ConfigError, match="rate must be"):
        _read(model, learns="memory", rate=3.0)
    for without in (tiny_model(memory_bits=()), quantized(model, "int8")):
        with pytest.raises(UnsupportedCombination, match="context memory in float32"):
            _read(without, learns="memory")
    # The memory learns from whatever it has read, so patches of any size will do.
    _, adaptive = _read(tiny_model(patch_size=3), learns="memory")
    assert adaptive.shape == (len(_TEXT), 8)
