"""Context memory: hashed embeddings of the last whole patches, added to the input of the trunk.

It gives a small network the long contexts of a context-mixing compressor: the network looks up what
followed the same 2, 3, 4, ... bytes before instead of computing it (hash n-gram embeddings: Pagnoni
et al. 2024, arXiv:2412.09871). The tables are narrow and get sparse gradients, so a larger table
costs neither time nor optimizer work.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from bit_transformer.model.config import ModelConfig

_HASH_SHIFT = 40  # The high bits of a multilinear hash are the well-mixed ones.
_MASK64 = (1 << 64) - 1


def _hash_multipliers(orders: tuple[int, ...]) -> Integer[Tensor, "O order"]:
    """One odd multiplier per order and patch, oldest first, zero beyond the order.

    Multilinear hashing (Lemire & Kaser 2014, arXiv:1202.4961). The multipliers come from splitmix64
    and not from a random generator, because checkpoints need the same ones on every machine.
    """
    table = torch.zeros(len(orders), orders[-1], dtype=torch.int64)
    for row, order in enumerate(orders):
        for distance in range(order):
            value = _splitmix64(row << 32 | distance) | 1
            table[row, -1 - distance] = value - (1 << 64) if value >> 63 else value
    return table


def _splitmix64(index: int) -> int:
    """The index-th output of splitmix64 (Steele, Lea & Flood 2014), an unsigned 64-bit integer."""
    z = ((index + 1) * 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


class ContextMemory(nn.Module):
    """One hash table per order. The rows of all orders are concatenated and projected to D."""

    multipliers: Tensor
    offsets: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        orders = config.memory_orders
        self.longest, self.slots = orders[-1], config.memory_slots
        self.register_buffer("multipliers", _hash_multipliers(orders), persistent=False)
        offsets = torch.arange(len(orders)) * self.slots
        self.register_buffer("offsets", offsets, persistent=False)
        self.rows = nn.Embedding(len(orders) * self.slots, config.memory_width, sparse=True)
        self.project = nn.Linear(len(orders) * config.memory_width, config.d_model, bias=False)
        self.dropout = nn.Dropout(config.memory_dropout)
        nn.init.normal_(self.rows.weight, std=0.1)

    def row_indices(self, recent: Integer[Tensor, "B M"], count: int) -> Integer[Tensor, "B S O"]:
        """Table rows of the last `count` positions. `recent` ends with the newest patch; -1: none.

        A position's context of order k is its own patch and the k - 1 patches before it.
        """
        symbols = (recent[:, 1 - count - self.longest :] + 1).unfold(1, self.longest, 1)
        keys = (symbols[:, :, None] * self.multipliers).sum(-1)
        return ((keys >> _HASH_SHIFT) & (self.slots - 1)) + self.offsets

    def forward(self, recent: Integer[Tensor, "B M"], count: int) -> Float[Tensor, "B S D"]:
        """The memory's vector for each of the last `count` positions. M >= count + longest - 1."""
        rows = self.rows(self.row_indices(recent, count))
        # Dropping channels keeps the trunk from trusting a row that a long context set only once.
        return self.project(self.dropout(rows).flatten(2))
