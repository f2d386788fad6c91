"""Root-mean-square normalisation without a gain (Zhang & Sennrich 2019, arXiv:1910.07467).

The gain is left out because a matrix follows every norm of the network and can carry it. Written as
an autograd function because the composed operators of PyTorch need three times as long on a CPU.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-6


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        square_sum = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide).square_()
        scale = square_sum.div_(x.shape[-1]).add_(EPSILON).rsqrt_()
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
    """`x / sqrt(mean(x**2) + 1e-6)` over the last axis, in float32 or wider."""
    y: Tensor = _RMSNorm.apply(x)  # type: ignore[no-untyped-call]
    return y
