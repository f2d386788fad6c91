"""Windows to batches of bits, resumable at any number of ranks."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from bit_transformer.bits.codec import bits_per_symbol, unpack_bytes
from bit_transformer.data.corpus import Corpus
from bit_transformer.data.windows import WindowOrder
from bit_transformer.errors import ConfigError


class WindowLoader:
    """An endless stream of training batches; its whole state is the number of batches taken.

    `batch_size` counts the windows of all ranks together: rank r of `world_size` takes rows r,
    r + world_size, ... of each global batch, so a run may resume at another number of ranks.

    Raises ConfigError when `batch_size` is no positive multiple of `world_size` or `rank` lies
    outside 0..world_size-1.
    """

    def __init__(
        self,
        corpus: Corpus,
        order: WindowOrder,
        *,
        batch_size: int,
        parity: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check_ranks(batch_size, rank, world_size)
        self._corpus = corpus
        self._order = order
        self._batch_size = batch_size
        self._parity = parity
        self._rank = rank
        self._world_size = world_size
        self._batches = 0

    @property
    def bits_per_window(self) -> int:
        """T of the batches, parity bits included."""
        return self._order.window_bytes * bits_per_symbol(self._parity)

    @property
    def epoch(self) -> float:
        """Epochs taken so far by all ranks; 1.0 when every window was due once."""
        return self._batches * self._batch_size / len(self._order)

    def next_batch(self) -> UInt8[Tensor, "B T"]:
        """This rank's share of the next global batch: (batch_size / world_size, T) bits.

        T is 8 bits a byte of the window, 9 with parity.
        """
        first = self._batches * self._batch_size
        rows = np.arange(self._rank, self._batch_size, self._world_size, dtype=np.int64)
        offsets = self._order.offsets(first + rows)
        window = self._order.window_bytes
        values = np.stack([self._corpus.read(int(offset), window) for offset in offsets])
        self._batches += 1
        return torch.from_numpy(unpack_bytes(values, parity=self._parity))

    def state_dict(self) -> dict[str, int]:
        """What `load_state_dict` needs to go on with the next batch."""
        return {"batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the given number of batches; ConfigError when there is no such number."""
        batches = state.get("batches")
        if not isinstance(batches, int) or batches < 0:
            raise ConfigError(f"loader state needs `batches` of at least 0, got {state}")
        self._batches = batches


def _check_ranks(batch_size: int, rank: int, world_size: int) -> None:
    if world_size < 1 or not 0 <= rank < world_size:
        raise ConfigError(f"rank must lie in 0..world_size-1, got {rank} of {world_size}")
    if batch_size < 1 or batch_size % world_size:
        raise ConfigError(
            f"batch_size counts all ranks and must be a positive multiple of their number "
            f"{world_size}, got {batch_size}"
        )
