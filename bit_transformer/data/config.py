"""The settings of a data set."""

from dataclasses import dataclass
from typing import Literal, get_args

from bit_transformer.errors import ConfigError, require
from bit_transformer.settings import Settings

Layout = Literal["spread", "tail"]


@dataclass(frozen=True)
class DataConfig(Settings):
    """Which data to train on and how much to hold out.

    Raises ConfigError for a value outside its limits.
    """

    sources: tuple[str, ...] = ()
    """Files, folders, globs, `-` for stdin, hf://...; none for the Python standard library."""
    held_out_fraction: float = 0.05
    """Share of the bytes that is held out from training, in [0, 1)."""
    held_out_layout: Layout = "spread"
    """Held-out regions `spread` over the corpus, or its `tail`."""
    held_out_regions: int = 32
    """Maximum number of held-out regions in a `spread` layout."""
    held_out_seed: int = 0
    """Seed for the places of the held-out regions."""

    def __post_init__(self) -> None:
        # A lone string is a sequence too, and would become one source per letter.
        if isinstance(self.sources, str) or "" in self.sources:
            raise ConfigError(f"sources must be a tuple of non-empty names, got {self.sources!r}")
        check_split_settings(self.held_out_fraction, self.held_out_layout, self.held_out_regions)


def check_split_settings(fraction: float, layout: str, regions: int) -> None:
    """Raise ConfigError unless 0 <= fraction < 1, the layout is a known one and regions >= 1."""
    layouts = get_args(Layout)
    require(0 <= fraction < 1, "held_out_fraction", fraction, "in [0, 1)")
    require(layout in layouts, "held_out_layout", repr(layout), f"one of {', '.join(layouts)}")
    require(regions >= 1, "held_out_regions", regions, "at least 1")
