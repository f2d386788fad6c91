"""The update equals that of torch's Muon, in the number format that is fast on the device."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Muon

from bit_transformer import device
from bit_transformer.training.muon import FastMuon, orthogonalize

SHAPES = [(6, 6), (12, 4), (4, 12), (9, 7), (1, 5), (16, 4)]


def _reference(matrix):
    """Compute the iteration as its authors define it, for one matrix, in float64."""
    x = matrix.double()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["random", "rank one", "zero", "ill conditioned"])
def test_every_way_computes_the_polynomial_of_the_authors(shape, kind):
    torch.manual_seed(0)
    stack = torch.randn(3, *shape, dtype=torch.float64)
    if kind == "rank one":
        stack = stack[:, :, :1] * stack[:, :1, :]
    elif kind == "zero":
        stack = torch.zeros_like(stack)
    elif kind == "ill conditioned":
        left, values, right = torch.linalg.svd(stack, full_matrices=False)
        stack = left @ torch.diag_embed(torch.logspace(0, -9, values.shape[-1])).double() @ right
    expected = torch.stack([_reference(matrix) for matrix in stack])
    exact = orthogonalize(stack, torch.float64)
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=1e-9)
    single = orthogonalize(stack.float(), torch.float32)
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=2e-3)


def test_singular_values_end_near_one():
    torch.manual_seed(0)
    found = torch.linalg.svdvals(orthogonalize(torch.randn(4, 64, 256), torch.float32))
    assert float(found.min()) > 0.6
    assert float(found.max()) < 1.25


def _trained(kind, matrices, **settings):
    weights = [nn.Parameter(matrix.clone()) for matrix in matrices]
    optimizer = kind(weights, lr=0.02, momentum=0.9, weight_decay=0.1, **settings)
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        if step == 2:
            weights[0].grad = None
        optimizer.step()
    return weights, optimizer


def test_it_is_torchs_muon(monkeypatch):
    """Every matrix of any shape moves as torch's Muon moves it, up to rounding."""
    monkeypatch.setattr(device, "has_bf16", lambda kind: True)
    torch.manual_seed(0)
    matrices = [torch.randn(shape) for shape in (*SHAPES, *SHAPES)]
    ours, optimizer = _trained(FastMuon, matrices)
    theirs, reference = _trained(Muon, matrices)
    for weight, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=8e-3)
    torch.testing.assert_close(optimizer.state_dict(), reference.state_dict())


def test_a_checkpoint_of_torchs_muon_goes_on():
    torch.manual_seed(0)
    matrices = [torch.randn(shape) for shape in SHAPES]
    theirs, reference = _trained(Muon, matrices)
    ours = FastMuon(
        [nn.Parameter(weight.detach().clone()) for weight in theirs],
        lr=0.02,
        momentum=0.9,
        weight_decay=0.1,
    )
    # The state is copied, because torch returns the momenta themselves and both sides change them.
    ours.load_state_dict(copy.deepcopy(reference.state_dict()))
    for weight, other in zip(ours.param_groups[0]["params"], theirs, strict=True):
        weight.grad = torch.randn_like(weight)
        other.grad = weight.grad.clone()
    ours.step()
    reference.step()
    for weight, other in zip(ours.param_groups[0]["params"], theirs, strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=8e-3)


def test_no_bfloat16_where_the_processor_would_emulate_it(monkeypatch):
    monkeypatch.setattr(device, "has_bf16", lambda kind: False)
    seen = set()

    class Formats(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), settings=None):
            result = function(*arguments, **(settings or {}))
            if isinstance(result, torch.Tensor):
                seen.add(result.dtype)
            return result

    with Formats():
        _trained(FastMuon, [torch.randn(8, 8), torch.randn(8, 32)])
    assert torch.bfloat16 not in seen
    assert torch.float32 in seen


def test_a_closure_is_evaluated_with_gradients():
    weight = nn.Parameter(torch.randn(4, 4))
    optimizer = FastMuon([weight], lr=0.1, momentum=0.9, weight_decay=0.0)

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    before = closure().item()
    assert optimizer.step(closure).item() == before
    assert closure().item() < before
