"""Where the training windows of each epoch lie and in which order they come, as a pure function."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from bit_transformer.data.permutation import hash64, permute
from bit_transformer.data.split import ByteRange
from bit_transformer.errors import SourceError

# Separates the random phases from the random order, which come from the same seed.
_PHASE_KEY = 0x5048415345


class WindowOrder:
    """A stateless map from a running index to the offset of a window; `len` is windows per epoch.

    In every epoch windows of `window_bytes` bytes tile each training range without overlap, from a
    random phase, so that over the epochs a byte is seen at every place in the context; ranges
    shorter than a window are skipped. They come in a pseudo-random order of their own each epoch.
    Memory is proportional to the ranges, not to the windows.

    Raises SourceError when no range holds a window.
    """

    def __init__(self, ranges: Sequence[ByteRange], window_bytes: int, seed: int) -> None:
        assert window_bytes >= 1
        usable = [span for span in ranges if span.size >= window_bytes]
        if not usable:
            longest = max((span.size for span in ranges), default=0)
            raise SourceError(
                f"no training range holds a window of {window_bytes} bytes, the longest has "
                f"{longest}; give more data or a shorter context"
            )
        sizes = np.array([span.size for span in usable], np.int64)
        # One less than fits, so that the phase has a window's width of room.
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
        """The first byte of each window; index i is window i % len of epoch i // len, i >= 0."""
        epochs, places = np.divmod(indices, self._windows)
        windows = permute(places, epochs, size=self._windows, seed=self._seed)
        spans = np.searchsorted(self._first_window, windows, side="right") - 1
        within = (windows - self._first_window[spans]) * self.window_bytes
        return self._starts[spans] + self._phases(epochs, spans) + within

    def _phases(
        self, epochs: Int64[np.ndarray, " n"], spans: Int64[np.ndarray, " n"]
    ) -> Int64[np.ndarray, " n"]:
        """How far the tiling of each range is shifted in each epoch, 0..slack."""
        drawn = hash64(self._seed ^ _PHASE_KEY, epochs.astype(np.uint64), spans.astype(np.uint64))
        return (drawn % (self._slack[spans] + 1).astype(np.uint64)).astype(np.int64)
