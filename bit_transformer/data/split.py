"""Which bytes of a corpus are for training and which are held out."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from bit_transformer.data.permutation import randint
from bit_transformer.errors import ConfigError, SourceError

Layout = Literal["spread", "tail"]
LAYOUTS = ("spread", "tail")


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
    """Ranges in ascending order; together they cover the corpus, and no two overlap."""

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
    """Split `size` bytes; `fraction` of them are held out.

    spread: one region at a random place inside each of `regions` equal strata, so that held-out
    data is of every kind the corpus holds; fewer regions where one would be shorter than
    `min_region` bytes, and at least one. tail: the last bytes, from int(size * (1 - fraction)) on,
    as nanoGPT splits. A fraction of 0 holds nothing out.

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
    split = Split(train=_between(size, held_out), held_out=held_out)
    if not _usable(split, min_region):
        raise SourceError(
            f"{size} bytes are too few to hold out {fraction:g} ({layout}) with windows of "
            f"{min_region} bytes; give more data, a shorter context or another held-out fraction"
        )
    return split


def check_split_settings(fraction: float, layout: str, regions: int) -> None:
    """Raise ConfigError unless 0 <= fraction < 1, layout is a known one and regions >= 1."""
    if not 0 <= fraction < 1:
        raise ConfigError(f"held_out_fraction must lie in [0, 1), got {fraction}")
    if layout not in LAYOUTS:
        raise ConfigError(f"held_out_layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if regions < 1:
        raise ConfigError(f"held_out_regions must be at least 1, got {regions}")


def _spread(
    size: int, fraction: float, regions: int, min_region: int, seed: int
) -> tuple[ByteRange, ...]:
    """As many regions as are long enough and leave a training window between them."""
    total = min(size, max(round(size * fraction), min_region))
    count = max(1, min(regions, total // min_region))
    while count:
        held_out = _place(size, total, count, seed)
        if any(gap.size >= min_region for gap in _between(size, held_out)):
            return held_out
        count //= 2
    # A short corpus has room for a training window only when its one region lies at the end.
    return (ByteRange(size - total, size),)


def _place(size: int, total: int, count: int, seed: int) -> tuple[ByteRange, ...]:
    """`count` regions of `total` bytes together, each at a random place in its own stratum."""
    placed = []
    for index in range(count):
        low, high = index * size // count, (index + 1) * size // count
        length = min((index + 1) * total // count - index * total // count, high - low)
        start = low + randint(seed, index, high - low - length + 1)
        placed.append(ByteRange(start, start + length))
    return tuple(placed)


def _between(size: int, held_out: tuple[ByteRange, ...]) -> tuple[ByteRange, ...]:
    """What the held-out ranges leave of 0..size-1."""
    edges = [ByteRange(0, 0), *held_out, ByteRange(size, size)]
    gaps = (ByteRange(before.stop, after.start) for before, after in pairwise(edges))
    return tuple(gap for gap in gaps if gap.size)


def _usable(split: Split, min_region: int) -> bool:
    shortest = min((region.size for region in split.held_out), default=min_region)
    longest = max((gap.size for gap in split.train), default=0)
    return shortest >= min_region and longest >= min_region
