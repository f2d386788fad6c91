"""The decision of the gate, as a pure function of metrics and floors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bit_transformer.errors import ConfigError, InvalidPredictionError

DOCUMENTED_FLOORS: Mapping[str, float] = MappingProxyType({"c": 0.3, "s": 0.5})
"""Floors of C and S that the documents of the earlier system give."""

METRIC_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "k": "K, order of the predictions",
        "c": "C, complexity of the bits",
        "s": "S, agreement with the reference",
        "t": "T, typicality of the bits under the model",
        "u": "U, order of the bits",
        "f": "F, familiarity of the metrics together",
    }
)


@dataclass(frozen=True)
class Verdict:
    """The decision on a sequence so far, with its reasons."""

    passed: bool
    """True if no metric was below its floor."""
    reasons: tuple[str, ...]
    """One line for each metric below its floor."""
    metrics: Mapping[str, float]
    """The judged values."""
    patch: int = 0
    """Number of patches read when the verdict was given."""
    warming_up: bool = False
    """True if too little had been read to judge. The verdict is then a pass."""


@dataclass(frozen=True)
class Policy:
    """Floors in [0, 1] for any of the metrics `k`, `c`, `s`, `t`, `u` and `f`.

    Raises `ConfigError` for an unknown metric or a floor outside [0, 1].
    """

    floors: Mapping[str, float] = field(default_factory=lambda: dict(DOCUMENTED_FLOORS))

    def __post_init__(self) -> None:
        for name, floor in self.floors.items():
            if name not in METRIC_NAMES:
                raise ConfigError(f"unknown metric {name!r}; choose from {[*METRIC_NAMES]}")
            if not 0 <= floor <= 1:
                raise ConfigError(f"the floor of {name} must be in [0, 1], got {floor}")

    def decide(self, metrics: Mapping[str, float]) -> Verdict:
        """Return the verdict on one set of metrics.

        Raises `InvalidPredictionError` for NaN, which would otherwise pass every floor.
        """
        for name in self.floors:
            if math.isnan(metrics[name]):
                raise InvalidPredictionError(
                    f"the metric {name} is NaN and cannot be compared with its floor; the model's "
                    "weights are damaged: load a good checkpoint"
                )
        reasons = tuple(
            f"{METRIC_NAMES[name]}, is {metrics[name]:.3g}, below its floor {floor:.3g}"
            for name, floor in self.floors.items()
            if metrics[name] < floor
        )
        return Verdict(not reasons, reasons, dict(metrics))
