"""Causal self-attention with an exchangeable kernel.

A kernel is a function `(queries, keys, values, rule) -> output`. `full_attention` uses PyTorch's
fused kernel and is the reference. Every other kernel must give the same output.
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
    """Defines which keys each query attends to. The last query has the position of the last key.

    With chunks, position p > 0 is in chunk (p - 1) // chunk, and the start position is in the first
    chunk. A query attends to the keys of its own chunk and to the `overlap` keys before it.
    """

    causal: bool = True
    """Whether keys after the query's own position are masked."""
    chunk: int | None = None
    """Positions per chunk. None: no chunks. Only causal attention is chunked."""
    overlap: int = 0
    """Positions before its chunk that a query also attends to, fewer than `chunk`."""

    def first_key(self, query: Integer[Tensor, "*S"]) -> Integer[Tensor, "*S"]:
        """The first key position that each query position attends to."""
        if self.chunk is None or not self.causal:
            return torch.zeros_like(query)
        chunk = (query - 1).clamp(min=0) // self.chunk
        return torch.where(chunk > 0, 1 + chunk * self.chunk - self.overlap, 0)

    def allowed(
        self, query: Integer[Tensor, " S"], key: Integer[Tensor, " M"]
    ) -> Bool[Tensor, "S M"]:
        """The attention mask: whether each query position attends to each key position."""
        seen = key >= self.first_key(query)[:, None]
        return seen & (key <= query[:, None]) if self.causal else seen


AttentionKernel = Callable[[Tensor, Tensor, Tensor, MaskRule], Tensor]


@dataclass(frozen=True)
class AttentionContext:
    """Inputs that all attention layers of one forward pass share."""

    rotation: Rotation
    kernel: AttentionKernel
    rule: MaskRule = MaskRule()


def full_attention(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H M K"],
    values: Float[Tensor, "B H M K"],
    rule: MaskRule,
) -> Float[Tensor, "B H S K"]:
    """Softmax attention over all keys that the rule allows, on PyTorch's fused kernel."""
    query_count, key_count = queries.shape[-2], keys.shape[-2]
    attend = functional.scaled_dot_product_attention
    if rule.causal and rule.chunk is not None and key_count - 1 > rule.chunk:
        positions = torch.arange(key_count, device=queries.device)
        allowed = rule.allowed(positions[key_count - query_count :], positions)
        return attend(queries, keys, values, attn_mask=allowed)
    # A single query is the newest position: all keys are before it, so it needs no mask.
    if not rule.causal or query_count == 1:
        return attend(queries, keys, values)
    if query_count == key_count:
        return attend(queries, keys, values, is_causal=True)
    # `is_causal` aligns the mask with the first key, but cached queries align with the last.
    allowed = torch.ones(query_count, key_count, dtype=torch.bool, device=queries.device)
    return attend(queries, keys, values, attn_mask=allowed.tril(key_count - query_count))


def chunked_attention(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H M K"],
    values: Float[Tensor, "B H M K"],
    rule: MaskRule,
) -> Float[Tensor, "B H S K"]:
    """`full_attention` under a rule with chunks, in time and memory linear in the length.

    Each chunk becomes a batch row of its own, with the keys of its overlap before its own keys.
    """
    positions, chunk = queries.shape[-2], rule.chunk
    chunked = rule.causal and chunk is not None and positions == keys.shape[-2]
    if not chunked or chunk is None or positions - 1 <= chunk:
        return full_attention(queries, keys, values, rule)
    attend = functional.scaled_dot_product_attention
    # The first chunk also holds the start position, so it is one longer than the others.
    head = 1 + chunk
    first = attend(queries[:, :, :head], keys[:, :, :head], values[:, :, :head], is_causal=True)
    padding = (0, 0, 0, -(positions - head) % chunk)
    batch, heads, _, width = queries.shape
    tail = functional.pad(queries[:, :, head:], padding).reshape(batch * heads, -1, chunk, width)
    # The chunks take the axis where the fused kernels expect heads.
    tail_keys, tail_values = (
        functional.pad(part[:, :, head - rule.overlap :], padding)
        .unfold(2, chunk + rule.overlap, chunk)
        .transpose(-1, -2)
        .flatten(0, 1)
        for part in (keys, values)
    )
    allowed = torch.ones(chunk, chunk + rule.overlap, dtype=torch.bool, device=queries.device)
    later = attend(tail, tail_keys, tail_values, attn_mask=allowed.tril(rule.overlap))
    later = later.reshape(batch, heads, -1, width)
    return torch.cat((first, later[:, :, : positions - head]), dim=2)


def attention_kernel(config: ModelConfig) -> AttentionKernel:
    """The kernel for a network of this configuration."""
    return full_attention if config.chunk_size is None else chunked_attention


class Attention(nn.Module):
    """The attention branch of a block: RMSNorm, self-attention, output projection.

    Queries and keys are normalised (Henry et al. 2020, arXiv:2010.04245), which bounds the
    attention logits at any learning rate."""

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
        query_mask: Bool[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "*out D"]:
        """The update that the block adds to `x`. With a cache, `x` continues the cached positions.

        With a `query_mask` the result is (selected positions, D). All positions still give keys
        and values.
        """
        queries, keys, values = self.project(x, context)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        if query_mask is not None and not query_mask.any():
            return x.new_zeros(0, x.shape[-1])
        mixed = context.kernel(queries, keys, values.to(keys.dtype), context.rule)
        mixed = mixed.transpose(1, 2).flatten(2)
        out = self.project_out(mixed if query_mask is None else mixed[query_mask])
        return self.dropout(out) if self.training else out

    def project(
        self, x: Float[Tensor, "B S D"], context: AttentionContext
    ) -> tuple[Float[Tensor, "B H S K"], Float[Tensor, "B H S K"], Float[Tensor, "B H S K"]]:
        """Queries and keys, both normalised and rotated by their positions, and values."""
        qkv = self.project_qkv(rms_norm(x)).view(*x.shape[:2], 3, self.nhead, self.head_width)
        queries_keys = context.rotation.apply(rms_norm(qkv[:, :, :2]))
        queries, keys = queries_keys.transpose(1, 3).unbind(2)
        return queries, keys, qkv[:, :, 2].transpose(1, 2)
