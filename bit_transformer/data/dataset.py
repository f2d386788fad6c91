"""A data set from its config: training batches and held-out bytes on demand."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bit_transformer.data.config import DataConfig
from bit_transformer.data.corpus import Corpus
from bit_transformer.data.loader import WindowLoader, WindowOrder
from bit_transformer.data.sources import resolve_sources
from bit_transformer.data.split import Split, split_held_out
from bit_transformer.errors import require


@dataclass(frozen=True)
class Dataset:
    """A corpus, its split, and the number of bytes in a training window."""

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
        """Return a loader of training windows in the order of `seed`; see `WindowLoader`."""
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
        """Number of held-out bytes."""
        return sum(region.size for region in self.split.held_out)

    def held_out_bytes(self, limit: int | None = None) -> Iterator[UInt8[np.ndarray, " _"]]:
        """Yield the held-out bytes, one array per region, each read when it is asked for.

        With a `limit`, yield exactly that many bytes, or all if there are fewer. Each region
        contributes its first bytes in proportion to its size, so that a small sample still covers
        every region.
        """
        require(limit is None or limit >= 0, "limit", limit, "at least 0 bytes")
        total = self.held_out_size
        taken = total if limit is None else min(limit, total)
        ends = accumulate((region.size for region in self.split.held_out), initial=0)
        shares = pairwise(end * taken // total if total else 0 for end in ends)
        for region, (before, after) in zip(self.split.held_out, shares, strict=True):
            if after > before:
                yield self.corpus.read(region.start, after - before)


def open_dataset(config: DataConfig, *, window_bytes: int, spool: Path) -> Dataset:
    """Find the files of a config and split their bytes for windows of `window_bytes` bytes.

    Streams (stdin, hf://) are first written to files under `spool`. Raises SourceError for data
    that is missing, unreadable, empty or too short, and ConfigError for a window below 1 byte.
    """
    require(window_bytes >= 1, "window_bytes", window_bytes, "at least 1")
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
