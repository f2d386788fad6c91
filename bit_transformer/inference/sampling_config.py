"""How patches are drawn, and from which seeds: the limits, for every way to ask.

The command line, Python, REST and MCP all build a `SamplingConfig`; the server's schema reads the
limits from the metadata of the fields. Nothing here loads torch.
"""

import numbers
from dataclasses import dataclass, field
from typing import Any

from bit_transformer.errors import ConfigError

MOST_TEMPERATURE = 1000.0
"""At a temperature of a thousand, patches that differ by a factor of 10**12 in probability are
drawn within 3 % equally often; more would change nothing."""
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class SamplingConfig:
    """How patches are drawn. Filters apply in the order of the fields, over whole patches."""

    temperature: float = field(default=1.0, metadata={"ge": 0, "le": MOST_TEMPERATURE})
    """Divides log-probabilities, at most 1000; 0 takes the most likely patch, and a temperature so
    small that nothing else can be drawn comes to the same."""
    top_k: int | None = field(default=None, metadata={"ge": 1})
    """Keep the k most likely patches."""
    top_p: float | None = field(default=None, metadata={"gt": 0, "le": 1})
    """Keep the most likely patches that together reach this probability (Holtzman et al. 2019)."""
    min_p: float | None = field(default=None, metadata={"ge": 0, "le": 1})
    """Keep patches with at least this share of the top probability (Nguyen et al. 2024)."""
    valid_utf8: bool = False
    """Draw only what continues and ends as valid UTF-8."""

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and 0 <= self.temperature <= MOST_TEMPERATURE):
            raise ConfigError(
                f"temperature must be in [0, {MOST_TEMPERATURE:.0f}], got {self.temperature}; 0 "
                "takes the most likely patch, 1 draws what the model predicts"
            )
        if self.top_k is not None and not (_is_whole(self.top_k) and self.top_k >= 1):
            raise ConfigError(
                f"top_k must be a whole number of at least 1, got {self.top_k}; leave it out for "
                "all"
            )
        if self.top_p is not None and not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise ConfigError(f"top_p must be in (0, 1], got {self.top_p}; leave it out for all")
        if self.min_p is not None and not (_is_number(self.min_p) and 0 <= self.min_p <= 1):
            raise ConfigError(f"min_p must be in [0, 1], got {self.min_p}; leave it out for all")

    @property
    def filters(self) -> bool:
        """Whether patches are drawn from another distribution than the model's own."""
        return self.temperature != 1 or any(
            bound is not None for bound in (self.top_k, self.top_p, self.min_p)
        )


def require_seed(seed: int) -> int:
    """The seed; `ConfigError` unless it is a whole number from 0 to 2**63 - 1."""
    if not _is_whole(seed) or not 0 <= seed <= MOST_SEED:
        raise ConfigError(f"seed must be a whole number from 0 to {MOST_SEED}, got {seed}")
    return seed


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
