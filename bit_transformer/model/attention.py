"""Causal self-attention, with the kernel as a seam.

A kernel is any function `(queries, keys, values, rule) -> output`; full attention on PyTorch's
fused kernel is the reference that every other one has to equal where both apply.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.model.cache import LayerCache
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.rotary import Rotation


@dataclass(frozen=True)
class MaskRule:
    """Which keys a query may read. The last query stands at the last key."""

    causal: bool = True
    """A query reads no key after its own position."""


AttentionKernel = Callable[[Tensor, Tensor, Tensor, MaskRule], Tensor]


@dataclass(frozen=True)
class AttentionContext:
    """What all attention layers of one forward pass share."""

    rotation: Rotation
    kernel: AttentionKernel
    rule: MaskRule = MaskRule()


def full_attention(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H M K"],
    values: Float[Tensor, "B H M K"],
    rule: MaskRule,
) -> Float[Tensor, "B H S K"]:
    """Softmax attention over all keys that the rule allows, on the fused kernel."""
    asked, known = queries.shape[-2], keys.shape[-2]
    attend = functional.scaled_dot_product_attention
    if not rule.causal or asked == 1:
        return attend(queries, keys, values)
    if asked == known:
        return attend(queries, keys, values, is_causal=True)
    allowed = torch.ones(asked, known, dtype=torch.bool, device=queries.device)
    return attend(queries, keys, values, attn_mask=allowed.tril(known - asked))


class Attention(nn.Module):
    """The first branch of a block: normalise, attend, project. Queries and keys are normalised
    (Henry et al. 2020, arXiv:2010.04245), so that logits stay bounded at any learning rate."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.nhead, self.head_width = config.nhead, config.head_width
        self.project_qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.project_out = nn.Linear(config.d_model, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.project_out.weight)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "B S D"]:
        """What the block adds to `x`; with a cache, `x` continues the positions cached before."""
        queries, keys, values = self.project(x, context)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        mixed = context.kernel(queries, keys, values.to(keys.dtype), context.rule)
        out = self.project_out(mixed.transpose(1, 2).reshape(x.shape))
        return self.dropout(out) if self.training else out

    def project(
        self, x: Float[Tensor, "B S D"], context: AttentionContext
    ) -> tuple[Float[Tensor, "B H S K"], Float[Tensor, "B H S K"], Float[Tensor, "B H S K"]]:
        """Queries and keys, normalised and rotated to their positions, and values."""
        qkv = self.project_qkv(rms_norm(x)).view(*x.shape[:2], 3, self.nhead, self.head_width)
        queries_keys = context.rotation.apply(rms_norm(qkv[:, :, :2]))
        queries, keys = queries_keys.transpose(1, 3).unbind(2)
        return queries, keys, qkv[:, :, 2].transpose(1, 2)
