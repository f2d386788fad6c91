"""The reversible stack has the gradients of plain autograd, but keeps no activations of blocks."""

import contextlib

import pytest
import torch

from bit_transformer.model.stack import ReversibleStack
from bit_transformer.objectives.causal import next_bit_loss
from tests.builders import tiny_model

BITS = torch.randint(0, 2, (2, 256), generator=torch.Generator().manual_seed(1))


def _plainly(stack, x, context, cache=None):
    first, second = stack.run(x, context, cache)
    return (first + second) / 2


def _gradients(model, *, recompute, monkeypatch, cast=contextlib.nullcontext):
    with monkeypatch.context() as patch:
        if not recompute:
            patch.setattr(ReversibleStack, "forward", _plainly)
        torch.manual_seed(3)
        with cast():
            loss = next_bit_loss(model.network, BITS)
        loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    return loss.detach(), found, torch.get_rng_state()


def _assert_same(model, monkeypatch, tolerance, **settings):
    loss, found, state = _gradients(model, recompute=True, monkeypatch=monkeypatch, **settings)
    reference = _gradients(model, recompute=False, monkeypatch=monkeypatch, **settings)
    torch.testing.assert_close(loss, reference[0])
    assert torch.equal(state, reference[2])
    for name, gradient in found.items():
        expected = reference[1][name]
        if gradient.is_sparse:
            gradient, expected = gradient.to_dense(), expected.to_dense()
        difference = (gradient - expected).norm() / expected.norm()
        assert difference < tolerance, name


@pytest.mark.parametrize("settings", [{}, {"chunk_size": 64, "overlap": 32}, {"num_layers": 9}])
def test_gradients_equal_plain_autograd_in_float64(settings, monkeypatch):
    model = tiny_model(reversible=True, **settings).double().train()
    _assert_same(model, monkeypatch, 1e-9)


def test_dropout_masks_are_drawn_once(monkeypatch):
    model = tiny_model(reversible=True, dropout=0.3).double().train()
    _assert_same(model, monkeypatch, 1e-9)


def test_autocast_is_replayed(monkeypatch):
    model = tiny_model(reversible=True).train()
    cast = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    # Without autocast, the recomputed inputs would differ by about one per cent.
    _assert_same(model, monkeypatch, 2e-3, cast=cast)


def _kept_bytes(**settings):
    held = []

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            held.append(tensor.nbytes)
        return tensor

    model = tiny_model(**settings).train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        next_bit_loss(model.network, BITS)
    return sum(held)


def test_what_is_kept_between_the_passes_does_not_grow_with_depth():
    assert _kept_bytes(reversible=True, num_layers=2) == _kept_bytes(reversible=True, num_layers=9)
    assert _kept_bytes(num_layers=2) < _kept_bytes(num_layers=9)
