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
# None where the system cannot hand pages back.
_DROP_PAGES = getattr(mmap, "MADV_DONTNEED", None)
_SAMPLES = 16
_SAMPLE_BYTES = 4096


class Corpus:
    """The files laid end to end. Sizes are fixed at construction; one reader at a time.

    Raises SourceError when a file cannot be read, when there is no byte at all, and from any read
    once a file has another size than it had at first: its offsets would mean other data.
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
        """Bytes in all files together."""
        return self._starts[-1]

    def read(self, start: int, count: int) -> UInt8[np.ndarray, " n"]:
        """A copy of the `count` bytes from `start`, across the ends of files.

        Raises SourceError when they do not all lie in the corpus.
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
        """A sha256 that tells other data from the same, whatever folder it lies in.

        Covers file names and sizes and a few blocks of the stream, first and last included, so it
        costs the same on 10 GB as on 1 MB; an edit between the blocks that keeps sizes is missed.
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
        # Reading a map past the end of a file that shrank kills the process, so look first.
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
    """Take the pages just read out of this process; the system's cache keeps them.

    A fault maps the cached pages around it too: 3,000 random reads of 1 KiB would otherwise add
    454 MiB of a cached 512 MiB file to the resident memory.
    """
    pages = file.base
    assert isinstance(pages, mmap.mmap)
    if _DROP_PAGES is not None:
        pages.madvise(_DROP_PAGES)


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"cannot read {path}: {error.strerror or error}; restore it or leave it out")
