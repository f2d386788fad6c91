"""Causal self-attention, with the kernel as a seam.

A kernel is any function `(queries, keys, values, rule) -> output`; full attention on PyTorch's
fused kernel is the reference that every other one has to equal where both apply.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.model.cache import LayerCache
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.rotary import Rotation


@dataclass(frozen=True)
class MaskRule:
    """Which keys a query may read. The last query stands at the last key.

    With chunks, position p > 0 is in chunk (p - 1) // chunk, and the start position in the first: a
    query reads no key before `overlap` positions ahead of its chunk.
    """

    causal: bool = True
    """A query reads no key after its own position."""
    chunk: int | None = None
    """Positions per chunk; None: one chunk is everything. Only causal attention is chunked."""
    overlap: int = 0
    """Positions before its chunk that a query also reads, fewer than a chunk has."""

    def first_key(self, query: Integer[Tensor, "*S"]) -> Integer[Tensor, "*S"]:
        """The first position that each query position may read."""
        if self.chunk is None or not self.causal:
            return torch.zeros_like(query)
        chunk = (query - 1).clamp(min=0) // self.chunk
        return torch.where(chunk > 0, 1 + chunk * self.chunk - self.overlap, 0)

    def allowed(
        self, query: Integer[Tensor, " S"], key: Integer[Tensor, " M"]
    ) -> Bool[Tensor, "S M"]:
        """Whether the query at each position may read the key at each position."""
        seen = key >= self.first_key(query)[:, None]
        return seen & (key <= query[:, None]) if self.causal else seen


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
    if rule.causal and rule.chunk is not None and known - 1 > rule.chunk:
        positions = torch.arange(known, device=queries.device)
        allowed = rule.allowed(positions[known - asked :], positions)
        return attend(queries, keys, values, attn_mask=allowed)
    if not rule.causal or asked == 1:
        return attend(queries, keys, values)
    if asked == known:
        return attend(queries, keys, values, is_causal=True)
    allowed = torch.ones(asked, known, dtype=torch.bool, device=queries.device)
    return attend(queries, keys, values, attn_mask=allowed.tril(known - asked))


def chunked_attention(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H M K"],
    values: Float[Tensor, "B H M K"],
    rule: MaskRule,
) -> Float[Tensor, "B H S K"]:
    """`full_attention` under a rule with chunks, in time and memory linear in the length.

    Every chunk becomes a row of its own, with the keys of its overlap before its own keys.
    """
    positions, chunk = queries.shape[-2], rule.chunk
    chunked = rule.causal and chunk is not None and positions == keys.shape[-2]
    if not chunked or chunk is None or positions - 1 <= chunk:
        return full_attention(queries, keys, values, rule)
    attend = functional.scaled_dot_product_attention
    begun = 1 + chunk
    first = attend(queries[:, :, :begun], keys[:, :, :begun], values[:, :, :begun], is_causal=True)
    padding = (0, 0, 0, -(positions - begun) % chunk)
    batch, heads, _, width = queries.shape
    asked = functional.pad(queries[:, :, begun:], padding).reshape(batch * heads, -1, chunk, width)
    # Chunks stand where the fused kernels expect heads.
    known, read = (
        functional.pad(part[:, :, begun - rule.overlap :], padding)
        .unfold(2, chunk + rule.overlap, chunk)
        .transpose(-1, -2)
        .flatten(0, 1)
        for part in (keys, values)
    )
    allowed = torch.ones(chunk, chunk + rule.overlap, dtype=torch.bool, device=queries.device)
    later = attend(asked, known, read, attn_mask=allowed.tril(rule.overlap))
    later = later.reshape(batch, heads, -1, width)
    return torch.cat((first, later[:, :, : positions - begun]), dim=2)


def attention_kernel(config: ModelConfig) -> AttentionKernel:
    """The kernel for a network of this configuration."""
    return full_attention if config.chunk_size is None else chunked_attention


class Attention(nn.Module):
    """The first branch of a block: normalise, attend, project. Queries and keys are normalised
    (Henry et al. 2020, arXiv:2010.04245), so that logits stay bounded at any learning rate."""

    def __init__(self, config: ModelConfig, nhead: int) -> None:
        super().__init__()
        self.nhead, self.head_width = nhead, config.head_width
        width = nhead * config.head_width
        self.project_qkv = nn.Linear(config.d_model, 3 * width, bias=False)
        self.project_out = nn.Linear(width, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.project_out.weight)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: LayerCache | None = None,
        wanted: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "*out D"]:
        """What the block adds to `x`; with a cache, `x` continues the positions cached before.

        Where only some positions are wanted the result is (wanted, D); the others are still read.
        """
        queries, keys, values = self.project(x, context)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        if wanted is not None and not wanted.any():
            return x.new_zeros(0, x.shape[-1])
        mixed = context.kernel(queries, keys, values.to(keys.dtype), context.rule)
        mixed = mixed.transpose(1, 2).flatten(2)
        out = self.project_out(mixed if wanted is None else mixed[wanted])
        return self.dropout(out) if self.training else out

    def project(
        self, x: Float[Tensor, "B S D"], context: AttentionContext
    ) -> tuple[Float[Tensor, "B H S K"], Float[Tensor, "B H S K"], Float[Tensor, "B H S K"]]:
        """Queries and keys, normalised and rotated to their positions, and values."""
        qkv = self.project_qkv(rms_norm(x)).view(*x.shape[:2], 3, self.nhead, self.head_width)
        queries_keys = context.rotation.apply(rms_norm(qkv[:, :, :2]))
        queries, keys = queries_keys.transpose(1, 3).unbind(2)
        return queries, keys, qkv[:, :, 2].transpose(1, 2)
