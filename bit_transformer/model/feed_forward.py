"""The position-wise branch: two matrices around a squared ReLU (So et al. 2021,
arXiv:2109.08668)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bit_transformer.model.config import ModelConfig
from bit_transformer.model.norm import rms_norm


class _SquaredReLU(torch.autograd.Function):
    """One tensor saved, two passes each way; composed operators take four times as long on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grads[0] * positive).mul_(2)


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`max(x, 0)**2`."""
    if not torch.is_grad_enabled():
        return x.relu().square_()
    y: Tensor = _SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
    return y


class FeedForward(nn.Module):
    """The second branch of a block: normalise, widen, bend, narrow."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.d_model, config.dim_feedforward, bias=False)
        self.narrow = nn.Linear(config.dim_feedforward, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.narrow.weight)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """What the block adds to `x`."""
        out = self.narrow(squared_relu(self.widen(rms_norm(x))))
        return self.dropout(out) if self.training else out
