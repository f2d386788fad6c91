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
    """`x / max(sqrt(mean(x**2)), 1e-6)` over the last axis, in float32 or wider."""
    if not torch.is_grad_enabled():
        # Decoding is bound by the number of operators; the autograd function would double it here.
        return x / _root_mean_square(x)
    y: Tensor = _RMSNorm.apply(x)  # type: ignore[no-untyped-call]
    return y
