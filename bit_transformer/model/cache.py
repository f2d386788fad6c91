"""What a network remembers of the patches it has read: keys and values per layer, and the last few
patches for the context memory. With it, reading one more patch costs one trunk position."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.model.config import ModelConfig
from bit_transformer.model.rotary import Rotary, Rotation


class LayerCache:
    """Keys and values of one attention layer, in room set aside at the start."""

    def __init__(self, keys: Float[Tensor, "B H S K"], values: Float[Tensor, "B H S K"]) -> None:
        self.keys, self.values, self.length = keys, values, 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions; return all stored so far, each (B, H, length, K)."""
        start, self.length = self.length, self.length + keys.shape[2]
        new = keys.shape[2]
        self.keys.narrow(2, start, new).copy_(keys)
        self.values.narrow(2, start, new).copy_(values)
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)

    def select(self, rows: Integer[Tensor, " B"]) -> None:
        """Put the sequences of these rows in place of all."""
        for store in (self.keys, self.values):
            read = store.narrow(2, 0, self.length)
            read.copy_(read[rows])

    def keep_newest(self, count: int, rotation: Rotation) -> None:
        """Move the newest positions to the front; keys are turned by `rotation` on the way."""
        begin = self.length - count
        newest = self.keys.narrow(2, begin, count)
        self.keys.narrow(2, 0, count).copy_(rotation.turn(newest))
        self.values.narrow(2, 0, count).copy_(self.values.narrow(2, begin, count).clone())
        self.length = count


class KVCache:
    """The state of one batch of sequences between forward passes, under unchanged weights.

    Where attention is chunked it holds one chunk and its overlap, and `slide` begins the next
    chunk, so that a sequence of any length is read in constant memory.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        heads: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        chunk, overlap = config.chunk_patches, config.overlap_patches
        self._limit, self._overlap, self._chunk = 1 + chunk, overlap, chunk
        capacity = chunk + max(1, overlap)
        stores = (
            torch.zeros(
                (2, batch_size, nhead, capacity, config.head_width), device=device, dtype=dtype
            )
            for nhead in heads
        )
        self.layers = [LayerCache(store[0], store[1]) for store in stores]
        orders = config.memory_orders
        self.recent: Integer[Tensor, "B order"] = torch.full(
            (batch_size, orders[-1] if orders else 0), -1, device=device
        )
        self.leaf_table: Tensor | None = None
        self.begun = False
        """Whether the start position has been read."""

    @property
    def length(self) -> int:
        """Positions stored."""
        return self.layers[0].length

    @property
    def room(self) -> int:
        """Positions that can be read before the cache is full."""
        return self._limit - self.length

    def slide(self, rotary: Rotary) -> None:
        """Begin the next chunk: forget all but the overlap, which takes the first positions.

        Attention depends on differences of positions alone, so they may start again.
        """
        rotation = rotary.back(self.length - self._overlap)
        for layer in self.layers:
            layer.keep_newest(self._overlap, rotation)
        self._limit = self._overlap + self._chunk

    def select(self, rows: Integer[Tensor, " B"]) -> None:
        """Put the sequences of these rows in place of all; there are as many as before."""
        for layer in self.layers:
            layer.select(rows)
        self.recent = self.recent[rows]

    def remember(self, patches: Integer[Tensor, "B N"]) -> None:
        """Keep the newest patches for the context memory; -1 stands for 'before the start'."""
        self.begun, kept = True, self.recent.shape[1]
        self.recent = torch.cat((self.recent, patches), dim=1)[:, -kept:] if kept else self.recent
