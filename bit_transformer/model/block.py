"""One block of the trunk: two pre-norm residual branches, attention and feed-forward."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bit_transformer.model.attention import Attention, AttentionContext
from bit_transformer.model.cache import LayerCache
from bit_transformer.model.config import LayerWidths, ModelConfig
from bit_transformer.model.norm import rms_norm


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream.

    Both output projections start at zero, so a fresh block is the identity.
    """

    def __init__(self, config: ModelConfig, widths: LayerWidths | None = None) -> None:
        """`widths` replace those of the configuration in a pruned block."""
        super().__init__()
        self.widths = widths or LayerWidths(config.nhead, config.dim_feedforward)
        self.attention = Attention(config, self.widths.nhead)
        self.feed_forward = FeedForward(config, self.widths.dim_feedforward)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: LayerCache | None = None,
        active: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The residual stream after both branches.

        Positions that are not `active` keep their state; the others still attend to them.
        """
        if active is None:
            x = x + self.attention(x, context, cache)
            return x + self.feed_forward(x)
        updated = x[active] + self.attention(x, context, cache, active)
        updated = updated + self.feed_forward(updated)
        return x.masked_scatter(active[..., None], updated.to(x.dtype))


class FeedForward(nn.Module):
    """RMSNorm, up-projection, squared ReLU, down-projection (So et al. 2021, arXiv:2109.08668)."""

    def __init__(self, config: ModelConfig, hidden: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.d_model, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.down_proj.weight)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The update that the block adds to `x`."""
        out = self.down_proj(squared_relu(self.up_proj(rms_norm(x))))
        return self.dropout(out) if self.training else out


def squared_relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`max(x, 0)**2`."""
    if not torch.is_grad_enabled():
        return functional.relu(x).square_()
    y: Tensor = _SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
    return y


class _SquaredReLU(torch.autograd.Function):
    """Saves one tensor and takes two passes each way. The composed operators are four times slower
    on a CPU."""

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
