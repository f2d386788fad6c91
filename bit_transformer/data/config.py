"""The settings of a data set."""

from dataclasses import dataclass

from bit_transformer.data.split import Layout, check_split_settings
from bit_transformer.errors import ConfigError
from bit_transformer.settings import Settings


@dataclass(frozen=True)
class DataConfig(Settings):
    """What to train on and what to hold out; `ConfigError` for a value outside its limits."""

    sources: tuple[str, ...] = ()
    """Files, folders, globs, `-` for stdin, hf://...; none for the Python standard library."""
    held_out_fraction: float = 0.05
    """Share of the bytes kept from training, in [0, 1)."""
    held_out_layout: Layout = "spread"
    """Held-out regions `spread` over the corpus, or its `tail`."""
    held_out_regions: int = 32
    """Most regions of a `spread` layout."""
    held_out_seed: int = 0
    """Places the held-out regions."""

    def __post_init__(self) -> None:
        # A lone string would be taken apart into one source a letter.
        if isinstance(self.sources, str) or "" in self.sources:
            raise ConfigError(f"sources must be a tuple of non-empty names, got {self.sources!r}")
        check_split_settings(self.held_out_fraction, self.held_out_layout, self.held_out_regions)
