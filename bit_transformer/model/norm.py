"""Root-mean-square normalisation without a gain (Zhang & Sennrich 2019, arXiv:1910.07467).

The gain is left out because a matrix follows every norm of the network and can carry it. Written as
an autograd function because the composed operators of PyTorch need three times as long on a CPU.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_SMALLEST = 1e-6
"""Root mean square below which a vector counts as zero."""


def _root_mean_square(x: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return norm.mul_(x.shape[-1] ** -0.5).clamp_min_(_SMALLEST)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = _root_mean_square(x).reciprocal_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        (grad,) = grads
        return torch.addcmul(grad, y, (grad * y).mean(-1, keepdim=True), value=-1).mul_(scale)


def rms_norm(x: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
    """`x / max(sqrt(mean(x**2)), 1e-6)` over the last axis, computed in float32 or wider.

    In a model of 16 bits the result has 16 bits too; under autocast it stays wide.
    """
    # Decoding is bound by the number of operators; the autograd function would double it there.
    graph = torch.is_grad_enabled()
    y: Tensor = _RMSNorm.apply(x) if graph else x / _root_mean_square(x)  # type: ignore[no-untyped-call]
    if y.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return y
    return y.to(x.dtype)
