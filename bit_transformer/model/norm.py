"""Root-mean-square normalisation without a gain (Zhang & Sennrich 2019, arXiv:1910.07467).

There is no gain, because a matrix follows every norm of the network and can absorb it. The norm is
an autograd function, because PyTorch's composed operators take three times as long on a CPU.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_MIN_RMS = 1e-6
"""Smallest divisor. It keeps the norm of a zero vector finite."""


def _root_mean_square(x: Tensor) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return norm.mul_(x.shape[-1] ** -0.5).clamp_min_(_MIN_RMS)


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

    The result has the dtype of `x`, except under autocast, where it stays float32.
    """
    # Decoding time is set by the number of operators, which the autograd function would double.
    graph = torch.is_grad_enabled()
    y: Tensor = _RMSNorm.apply(x) if graph else x / _root_mean_square(x)  # type: ignore[no-untyped-call]
    if y.dtype == x.dtype or torch.is_autocast_enabled(x.device.type):
        return y
    return y.to(x.dtype)
