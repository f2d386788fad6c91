"""A list of files as one virtual stream of bytes, read by position and never loaded whole."""

import mmap
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bit_transformer.errors import SourceError

MAX_OPEN_FILES = 64
# None on a system that cannot release pages.
_DROP_PAGES = getattr(mmap, "MADV_DONTNEED", None)
_SAMPLES = 16
_SAMPLE_BYTES = 4096


class Corpus:
    """The bytes of several files, end to end. Only one thread may read at a time.

    Raises SourceError when a file cannot be read or when no file holds a byte. Sizes are fixed at
    construction: a read raises SourceError once the size of a file has changed, because its
    offsets would then point to other data.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        sizes = [(path, _size_of(path)) for path in paths]
        self.paths = tuple(path for path, size in sizes if size)
        self._sizes = tuple(size for _, size in sizes if size)
        self._starts = (0, *accumulate(self._sizes))
        self._maps: OrderedDict[int, np.memmap] = OrderedDict()
        if not self.paths:
            raise SourceError(f"no data: {len(paths)} files hold 0 bytes; name a file with data")

    @property
    def size(self) -> int:
        """Number of bytes in all files together."""
        return self._starts[-1]

    def read(self, start: int, count: int) -> UInt8[np.ndarray, " n"]:
        """Return a copy of `count` bytes from `start` on, across file boundaries.

        Raises SourceError unless all of them lie in the corpus.
        """
        if not 0 <= start <= start + count <= self.size:
            raise SourceError(
                f"bytes {start}..{start + count} lie outside the corpus of {self.size} bytes"
            )
        out = np.empty(count, np.uint8)
        index, filled = bisect_right(self._starts, start) - 1, 0
        while filled < count:
            offset = start + filled - self._starts[index]
            file = self._map(index)
            piece = file[offset : offset + count - filled]
            out[filled : filled + piece.size] = piece
            filled += piece.size
            _drop_pages(file)
            index += 1
        return out

    def fingerprint(self) -> str:
        """Return a SHA-256 that identifies the data, whatever folder it lies in.

        It covers the file names, the file sizes and 16 blocks of 4 KiB, so it takes as long for
        10 GB as for 1 MB. It does not notice an edit between the blocks that keeps the sizes.
        """
        digest = sha256()
        for path, size in zip(self.paths, self._sizes, strict=True):
            digest.update(f"{path.name}\0{size}\0".encode("utf-8", errors="surrogateescape"))
        count = min(_SAMPLE_BYTES, self.size)
        for sample in range(_SAMPLES):
            start = (self.size - count) * sample // (_SAMPLES - 1)
            digest.update(self.read(start, count).tobytes())
        return digest.hexdigest()

    def _map(self, index: int) -> np.memmap:
        path = self.paths[index]
        # Reading a map past the end of a file that shrank kills the process, so check first.
        size = _size_of(path)
        if size != self._sizes[index]:
            raise SourceError(
                f"{path} changed from {self._sizes[index]} to {size} bytes while in use; "
                "restore it or start again"
            )
        if index not in self._maps:
            self._maps[index] = _open_map(path)
        self._maps.move_to_end(index)
        if len(self._maps) > MAX_OPEN_FILES:
            self._maps.popitem(last=False)
        return self._maps[index]


def _size_of(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _open_map(path: Path) -> np.memmap:
    try:
        return np.memmap(path, np.uint8, mode="r")
    except OSError as error:
        raise _unreadable(path, error) from error


def _drop_pages(file: np.memmap) -> None:
    """Remove the pages just read from this process; the system's cache keeps them.

    A page fault also maps the cached pages around it. Without this, 3,000 random reads of 1 KiB
    add 454 MiB of a cached 512 MiB file to the resident memory.
    """
    pages = file.base
    assert isinstance(pages, mmap.mmap)
    if _DROP_PAGES is not None:
        pages.madvise(_DROP_PAGES)


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"cannot read {path}: {error.strerror or error}; restore it or leave it out")
