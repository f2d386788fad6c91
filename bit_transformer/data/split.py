"""Which bytes of a corpus are for training and which are held out."""

from dataclasses import dataclass
from itertools import pairwise

from bit_transformer.data.config import Layout, check_split_settings
from bit_transformer.data.permutation import randint
from bit_transformer.errors import SourceError


@dataclass(frozen=True)
class ByteRange:
    """The bytes start..stop-1 of a corpus."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.stop - self.start


@dataclass(frozen=True)
class Split:
    """Ranges in ascending order. Together they cover the corpus, and they do not overlap."""

    train: tuple[ByteRange, ...]
    held_out: tuple[ByteRange, ...]


def split_held_out(
    size: int,
    *,
    fraction: float,
    layout: Layout = "spread",
    regions: int = 32,
    min_region: int,
    seed: int,
) -> Split:
    """Split `size` bytes and hold out `fraction` of them. A fraction of 0 holds nothing out.

    "spread" divides the corpus into `regions` equal strata and holds out one region at a random
    place in each, so that the held-out data samples every part of the corpus. It uses fewer
    regions, but at least one, where they would be shorter than `min_region` bytes. "tail" holds
    out the last bytes, from int(size * (1 - fraction)) on, as nanoGPT does.

    Raises ConfigError for settings outside their limits, and SourceError when the corpus is too
    short for one training window and one held-out region of `min_region` bytes each.
    """
    assert min_region >= 1
    check_split_settings(fraction, layout, regions)
    if fraction == 0:
        held_out: tuple[ByteRange, ...] = ()
    elif layout == "tail":
        held_out = (ByteRange(int(size * (1 - fraction)), size),)
    else:
        held_out = _spread(size, fraction, regions, min_region, seed)
    split = Split(train=_gaps(size, held_out), held_out=held_out)
    if not _is_usable(split, min_region):
        raise SourceError(
            f"{size} bytes are too few to hold out {fraction:g} ({layout}) with windows of "
            f"{min_region} bytes; use more data, a shorter context or another held-out fraction"
        )
    return split


def _spread(
    size: int, fraction: float, regions: int, min_region: int, seed: int
) -> tuple[ByteRange, ...]:
    """Place as many regions as are long enough and leave room for a training window."""
    total = min(size, max(round(size * fraction), min_region))
    count = max(1, min(regions, total // min_region))
    while count:
        held_out = _place(size, total, count, seed)
        if any(gap.size >= min_region for gap in _gaps(size, held_out)):
            return held_out
        count //= 2
    # A short corpus has room for a training window only if its one region lies at the end.
    return (ByteRange(size - total, size),)


def _place(size: int, total: int, count: int, seed: int) -> tuple[ByteRange, ...]:
    """Place `count` regions of `total` bytes together, each at a random place in its stratum."""
    placed = []
    for index in range(count):
        low, high = index * size // count, (index + 1) * size // count
        length = min((index + 1) * total // count - index * total // count, high - low)
        start = low + randint(seed, index, high - low - length + 1)
        placed.append(ByteRange(start, start + length))
    return tuple(placed)


def _gaps(size: int, held_out: tuple[ByteRange, ...]) -> tuple[ByteRange, ...]:
    """Return the non-empty ranges of 0..size-1 before, between and after the held-out ranges."""
    edges = [ByteRange(0, 0), *held_out, ByteRange(size, size)]
    gaps = (ByteRange(before.stop, after.start) for before, after in pairwise(edges))
    return tuple(gap for gap in gaps if gap.size)


def _is_usable(split: Split, min_region: int) -> bool:
    shortest = min((region.size for region in split.held_out), default=min_region)
    longest = max((gap.size for gap in split.train), default=0)
    return shortest >= min_region and longest >= min_region
