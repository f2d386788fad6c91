"""A data set from its config: files found, bytes split, batches and held-out text on demand."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bit_transformer.data.config import DataConfig
from bit_transformer.data.corpus import Corpus
from bit_transformer.data.loader import WindowLoader
from bit_transformer.data.sources import resolve_sources
from bit_transformer.data.split import Split, split_held_out
from bit_transformer.data.windows import WindowOrder
from bit_transformer.errors import ConfigError


@dataclass(frozen=True)
class Dataset:
    """A corpus, its split, and the bytes that one training window holds."""

    corpus: Corpus
    split: Split
    window_bytes: int

    def loader(
        self,
        batch_size: int,
        *,
        parity: bool = False,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
    ) -> WindowLoader:
        """Batches of training windows; `seed` orders them, `batch_size` counts all ranks."""
        order = WindowOrder(self.split.train, self.window_bytes, seed)
        return WindowLoader(
            self.corpus,
            order,
            batch_size=batch_size,
            parity=parity,
            rank=rank,
            world_size=world_size,
        )

    @property
    def held_out_size(self) -> int:
        """How many bytes are held out."""
        return sum(region.size for region in self.split.held_out)

    def held_out_bytes(self, limit: int | None = None) -> Iterator[UInt8[np.ndarray, " _"]]:
        """The held-out bytes, one array a region, read as they are asked for.

        With a `limit`, exactly that many bytes (or all there are), each region giving its first
        bytes in proportion to its size, so that a small sample is still of every kind.
        """
        if limit is not None and limit < 0:
            raise ConfigError(f"limit must be at least 0 bytes, got {limit}")
        total = self.held_out_size
        taken = total if limit is None else min(limit, total)
        ends = accumulate((region.size for region in self.split.held_out), initial=0)
        shares = pairwise(end * taken // total if total else 0 for end in ends)
        for region, (before, after) in zip(self.split.held_out, shares, strict=True):
            if after > before:
                yield self.corpus.read(region.start, after - before)


def open_dataset(config: DataConfig, *, window_bytes: int, spool: Path) -> Dataset:
    """Find the files, split their bytes, and be ready to read windows of `window_bytes` bytes.

    Streams (stdin, hf://) are first written under `spool`. Raises SourceError for data that is
    missing, unreadable, empty or too short, ConfigError for a window below 1 byte.
    """
    if window_bytes < 1:
        raise ConfigError(f"window_bytes must be at least 1, got {window_bytes}")
    corpus = Corpus(resolve_sources(config.sources, spool=spool))
    split = split_held_out(
        corpus.size,
        fraction=config.held_out_fraction,
        layout=config.held_out_layout,
        regions=config.held_out_regions,
        min_region=window_bytes,
        seed=config.held_out_seed,
    )
    return Dataset(corpus, split, window_bytes)
