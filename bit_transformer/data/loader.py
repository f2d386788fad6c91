"""The windows of each epoch in random order, and batches of their bits.

Both are pure functions of a seed and a running number. A run resumes from that number alone, at
any number of ranks.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from bit_transformer.bits.codec import bits_per_symbol, unpack_bytes
from bit_transformer.data.corpus import Corpus
from bit_transformer.data.permutation import hash64, permute
from bit_transformer.data.split import ByteRange
from bit_transformer.errors import ConfigError, SourceError, require

# Mixed into the seed, so that the random phases do not depend on the random order.
_PHASE_KEY = 0x5048415345


class WindowOrder:
    """A stateless map from a running index to the offset of a window; `len` is windows per epoch.

    In each epoch, windows of `window_bytes` bytes tile every training range without overlap. The
    tiling starts at a random phase, so that over the epochs each byte appears at every place in
    the context. The windows come in a new pseudo-random order in each epoch. Ranges shorter than a
    window are skipped. Memory grows with the number of ranges, not with the number of windows.

    Raises SourceError when no range is as long as a window.
    """

    def __init__(self, ranges: Sequence[ByteRange], window_bytes: int, seed: int) -> None:
        assert window_bytes >= 1
        usable = [span for span in ranges if span.size >= window_bytes]
        if not usable:
            longest = max((span.size for span in ranges), default=0)
            raise SourceError(
                f"no training range holds a window of {window_bytes} bytes, the longest has "
                f"{longest}; use more data or a shorter context"
            )
        sizes = np.array([span.size for span in usable], np.int64)
        # One window less than fits, so that the phase can move by the width of a window.
        counts = np.maximum(1, (sizes - window_bytes + 1) // window_bytes)
        self.window_bytes = window_bytes
        self._seed = seed
        self._starts = np.array([span.start for span in usable], np.int64)
        self._slack = sizes - counts * window_bytes
        self._first_window = np.cumsum(counts) - counts
        self._windows = int(counts.sum())

    def __len__(self) -> int:
        return self._windows

    def offsets(self, indices: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the first byte of each window; index i >= 0 belongs to epoch i // len."""
        epochs, places = np.divmod(indices, self._windows)
        windows = permute(places, epochs, size=self._windows, seed=self._seed)
        spans = np.searchsorted(self._first_window, windows, side="right") - 1
        within = (windows - self._first_window[spans]) * self.window_bytes
        return self._starts[spans] + self._phases(epochs, spans) + within

    def _phases(
        self, epochs: Int64[np.ndarray, " n"], spans: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """Return the shift in bytes (0..slack) of each range's tiling in each epoch."""
        drawn = hash64(self._seed ^ _PHASE_KEY, epochs.astype(np.uint64), spans.astype(np.uint64))
        return (drawn % (self._slack[spans] + 1).astype(np.uint64)).astype(np.int64)


class WindowLoader:
    """An endless stream of training batches. Its only state is the number of batches taken.

    `batch_size` counts the windows of all ranks together. Rank r of `world_size` takes rows r,
    r + world_size, ... of each global batch, so a run may resume at another number of ranks.

    Raises ConfigError unless `batch_size` is a positive multiple of `world_size` and `rank` lies
    in 0..world_size-1.
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
        """Length T of a row, parity bits included."""
        return self._order.window_bytes * bits_per_symbol(self._parity)

    @property
    def epoch(self) -> float:
        """Epochs that all ranks together have taken; 1.0 once every window was taken once."""
        return self._batches * self._batch_size / len(self._order)

    def next_batch(self) -> UInt8[Tensor, "B T"]:
        """Return this rank's rows of the next global batch, B = batch_size / world_size."""
        first = self._batches * self._batch_size
        rows = np.arange(self._rank, self._batch_size, self._world_size, dtype=np.int64)
        offsets = self._order.offsets(first + rows)
        window = self._order.window_bytes
        values = np.stack([self._corpus.read(int(offset), window) for offset in offsets])
        self._batches += 1
        return torch.from_numpy(unpack_bytes(values, parity=self._parity))

    def state_dict(self) -> dict[str, int]:
        """Return the state from which `load_state_dict` continues with the next batch."""
        return {"batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a saved state; raises ConfigError unless it holds a number of batches."""
        batches = state.get("batches")
        if not isinstance(batches, int) or batches < 0:
            raise ConfigError(f"loader state needs `batches` of at least 0, got {state}")
        self._batches = batches


def _check_ranks(batch_size: int, rank: int, world_size: int) -> None:
    in_range = 0 <= rank < world_size
    require(in_range, "rank", f"{rank} of {world_size}", "in 0..world_size-1")
    shared = batch_size >= 1 and batch_size % world_size == 0
    require(shared, "batch_size", batch_size, f"a positive multiple of world_size {world_size}")
