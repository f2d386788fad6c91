"""What is held back, as a pure function of readings and floors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bit_transformer.errors import ConfigError, InvalidPredictionError

DOCUMENTED_FLOORS: Mapping[str, float] = MappingProxyType({"c": 0.3, "s": 0.5})
"""Floors of C and S in the documents of the earlier system."""

READING_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "k": "K, order of the predictions",
        "c": "C, complexity of the bits",
        "s": "S, agreement with the reference",
        "t": "T, typicality of the bits under the model",
        "u": "U, order of the bits",
        "f": "F, familiarity of the readings together",
    }
)


@dataclass(frozen=True)
class Verdict:
    """Whether a sequence may go on, and why not."""

    passed: bool
    """No reading was below its floor."""
    reasons: tuple[str, ...]
    """One line for each reading below its floor."""
    readings: Mapping[str, float]
    """What was judged."""
    patch: int = 0
    """Patches that had been read when it was given."""
    warming_up: bool = False
    """Too little had been read to judge; the verdict is then a pass."""


@dataclass(frozen=True)
class Policy:
    """Floors by reading (`k`, `c`, `s`, `t`, `u`, `f`), each in [0, 1]; others are not judged.

    Raises `ConfigError` for an unknown reading or a floor outside [0, 1].
    """

    floors: Mapping[str, float] = field(default_factory=lambda: dict(DOCUMENTED_FLOORS))

    def __post_init__(self) -> None:
        for name, floor in self.floors.items():
            if name not in READING_NAMES:
                raise ConfigError(f"there is no reading {name!r}; there are {[*READING_NAMES]}")
            if not 0 <= floor <= 1:
                raise ConfigError(f"the floor of {name} must be in [0, 1], got {floor}")

    def decide(self, readings: Mapping[str, float]) -> Verdict:
        """The verdict on one set of readings.

        Raises `InvalidPredictionError` for a reading that is NaN: it is no pass.
        """
        for name in self.floors:
            if math.isnan(readings[name]):
                raise InvalidPredictionError(
                    f"the reading {name} is NaN and cannot be held against its floor; the model's "
                    "weights are damaged: load a good checkpoint"
                )
        reasons = tuple(
            f"{READING_NAMES[name]}, is {readings[name]:.3g}, below its floor {floor:.3g}"
            for name, floor in self.floors.items()
            if readings[name] < floor
        )
        return Verdict(not reasons, reasons, dict(readings))
