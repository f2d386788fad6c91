"""The decoding cache: keys and values of each layer, and the last patches for the context memory.

With a cache, one more patch costs one trunk position instead of a pass over the whole sequence."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.model.config import ModelConfig
from bit_transformer.model.rotary import Rotary, Rotation


class LayerCache:
    """Keys and values of one attention layer, in buffers that are allocated once."""

    def __init__(self, keys: Float[Tensor, "B H S K"], values: Float[Tensor, "B H S K"]) -> None:
        self.keys, self.values, self.length = keys, values, 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new positions. Returns all stored keys and values, each (B, H, length, K)."""
        start, self.length = self.length, self.length + keys.shape[2]
        new = keys.shape[2]
        self.keys.narrow(2, start, new).copy_(keys)
        self.values.narrow(2, start, new).copy_(values)
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)

    def select(self, rows: Integer[Tensor, " B"]) -> None:
        """Make sequence i a copy of the former sequence `rows[i]`."""
        for store in (self.keys, self.values):
            used = store.narrow(2, 0, self.length)
            used.copy_(used[rows])

    def keep_newest(self, count: int, rotation: Rotation) -> None:
        """Move the newest positions to the front, with their keys rotated to the new positions."""
        begin = self.length - count
        newest = self.keys.narrow(2, begin, count)
        self.keys.narrow(2, 0, count).copy_(rotation.apply(newest))
        self.values.narrow(2, 0, count).copy_(self.values.narrow(2, begin, count).clone())
        self.length = count


class KVCache:
    """The state of one batch of sequences between forward passes. The weights must not change.

    With chunked attention it holds one chunk and its overlap. `slide` begins the next chunk, so a
    sequence of any length is read in constant memory.
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
        """Whether the start position is stored or was stored before a `slide`."""

    @property
    def length(self) -> int:
        """Positions stored."""
        return self.layers[0].length

    @property
    def room(self) -> int:
        """Positions that can still be stored."""
        return self._limit - self.length

    def slide(self, rotary: Rotary) -> None:
        """Begin the next chunk: keep only the overlap and move it to the first positions.

        Rotary attention depends only on differences of positions, so the numbering may restart.
        """
        rotation = rotary.back(self.length - self._overlap)
        for layer in self.layers:
            layer.keep_newest(self._overlap, rotation)
        self._limit = self._overlap + self._chunk

    def select(self, rows: Integer[Tensor, " B"]) -> None:
        """Make sequence i a copy of the former sequence `rows[i]`, one for each sequence."""
        for layer in self.layers:
            layer.select(rows)
        self.recent = self.recent[rows]

    def remember(self, patches: Integer[Tensor, "B N"]) -> None:
        """Keep the newest patches for the context memory. -1 means 'before the start'."""
        self.begun, kept = True, self.recent.shape[1]
        self.recent = torch.cat((self.recent, patches), dim=1)[:, -kept:] if kept else self.recent
