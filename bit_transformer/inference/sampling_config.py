"""Sampling settings and seeds, with their limits.

The command line, Python, REST and MCP all build a `SamplingConfig`. The server's schema reads the
limits from the metadata of its fields. This module does not import torch, to keep `--help` fast.
"""

import numbers
from dataclasses import dataclass, field
from typing import Any

from bit_transformer.errors import ConfigError

MAX_TEMPERATURE = 1000.0
"""At this temperature two patches whose probabilities differ by a factor of 10**12 are drawn
equally often within 3 %, so a higher one would change nothing."""
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class SamplingConfig:
    """Sampling settings. Filters apply to whole patches, in the order of the fields."""

    temperature: float = field(default=1.0, metadata={"ge": 0, "le": MAX_TEMPERATURE})
    """Divisor of the log-probabilities, at most 1000. 0 takes the most likely patch."""
    top_k: int | None = field(default=None, metadata={"ge": 1})
    """Keep the k most likely patches."""
    top_p: float | None = field(default=None, metadata={"gt": 0, "le": 1})
    """Keep the most likely patches that together reach this probability (Holtzman et al. 2019)."""
    min_p: float | None = field(default=None, metadata={"ge": 0, "le": 1})
    """Keep patches with at least this share of the top probability (Nguyen et al. 2024)."""
    valid_utf8: bool = False
    """Draw only patches that keep the text valid UTF-8 up to its end."""

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 <= self.temperature <= MAX_TEMPERATURE):
            raise ConfigError(
                f"temperature must be in [0, {MAX_TEMPERATURE:.0f}], got {self.temperature}; 0 "
                "takes the most likely patch, 1 draws what the model predicts"
            )
        if self.top_k is not None and not (_is_whole(self.top_k) and self.top_k >= 1):
            raise ConfigError(
                f"top_k must be a whole number of at least 1, got {self.top_k}; omit it to keep all"
            )
        if self.top_p is not None and not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise ConfigError(f"top_p must be in (0, 1], got {self.top_p}; omit it to keep all")
        if self.min_p is not None and not (_is_number(self.min_p) and 0 <= self.min_p <= 1):
            raise ConfigError(f"min_p must be in [0, 1], got {self.min_p}; omit it to keep all")

    @property
    def filters(self) -> bool:
        """True if the settings change the model's distribution."""
        return self.temperature != 1 or any(
            bound is not None for bound in (self.top_k, self.top_p, self.min_p)
        )


def require_seed(seed: int) -> int:
    """Return the seed. Raises `ConfigError` unless it is a whole number from 0 to 2**63 - 1."""
    if not _is_whole(seed) or not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"seed must be a whole number from 0 to {MAX_SEED}, got {seed}")
    return seed


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
