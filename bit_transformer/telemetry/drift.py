"""Drift detection: alarms when the level of a metric changes, at a chosen false-alarm rate.

1. A first-order autoregression, fitted on a baseline, removes serial correlation. Its coefficient
   carries Kendall's bias correction (Kendall 1954, Biometrika 41).
2. Recursive residuals (Brown, Durbin & Evans 1975, JRSS B 37) compare each value with the mean and
   deviation of all values before it, in units of the prediction error. A short baseline therefore
   does not cause extra alarms.
3. The Page-Hinkley test (Page 1954, Biometrika 41; implementation: river) accumulates the part of
   each residual beyond half the shift that it looks for.

The threshold follows from the requested average run length to a false alarm, by Siegmund's
approximation ("Sequential Analysis", 1985) for each of the two sides.
`benchmarks/bench_drift.py` checks the run lengths by simulation.
"""

import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.errors import InvalidPredictionError, require
from bit_transformer.extras import extra_imports

_OVERSHOOT = 1.166
"""Siegmund's correction for sums that overshoot the threshold."""
_MEAN_CORRECTION = 0.2
"""Reduction of the threshold, in units of 1 / shift. The test's running mean follows an excursion a
little, which delays alarms. Fitted to simulations at run lengths of 500 and 1,000, a shift of 1 and
a baseline of 200. Alarms are 1.25 times too frequent at a shift of 2, and 1.2 to 1.4 times too rare
at a baseline of 50."""
_MIN_BASELINE = 30
_MAX_CORRELATION = 0.99


class MetricDriftWarning(UserWarning):
    """The level of a metric has changed."""


class DriftDetector:
    """Watches one metric. It learns a new baseline at the start and after each alarm."""

    def __init__(
        self, expected_interval: float = 1000.0, shift: float = 1.0, baseline: int = 200
    ) -> None:
        """`expected_interval` is the average run length to a false alarm, in values after the
        baseline. `shift` is the change to detect, in standard deviations. `baseline` is the number
        of values that define the usual level.

        Raises `ConfigError` for a value outside its limits, `MissingExtraError` without river.
        """
        require(expected_interval >= 10, "expected_interval", expected_interval, "at least 10")
        require(0.1 <= shift <= 10, "shift", shift, "in [0.1, 10]")
        require(baseline >= _MIN_BASELINE, "baseline", baseline, f"at least {_MIN_BASELINE}")
        self._half_shift, self._baseline = shift / 2, baseline
        self._threshold = page_hinkley_threshold(expected_interval, shift)
        self._library = _river()
        self._reset()

    def _reset(self) -> None:
        self._first: list[float] = []
        self._previous = 0.0
        self._test: Any = None

    def update(self, value: float) -> bool:
        """Add one value of the metric and return whether it raises an alarm.

        Raises `InvalidPredictionError` for a value that is not finite.
        """
        if not math.isfinite(value):
            raise InvalidPredictionError(
                f"the metric is {value}, but drift detection needs finite values; find its cause"
            )
        if self._test is None:
            self._first.append(value)
            if len(self._first) == self._baseline:
                self._fit_baseline(np.array(self._first))
            return False
        self._test.update(self._standardized_residual(value))
        if not self._test.drift_detected:
            return False
        self._reset()
        return True

    def _standardized_residual(self, value: float) -> float:
        """Return the error of predicting `value` from the past, in standard errors."""
        residual = value - self._correlation * self._previous
        self._previous = value
        mean, variance = self._residuals.mean, self._residuals.get()
        distance, error = residual - mean.get(), math.sqrt(variance * (1 + 1 / mean.n))
        self._residuals.update(residual)
        if error > 0:
            return distance / error
        # A constant metric has no deviation, so any change at all counts as a large one.
        return math.copysign(1e6, distance) if distance else 0.0

    def _fit_baseline(self, values: Float[np.ndarray, " n"]) -> None:
        self._correlation = _correlation(values)
        self._residuals = self._library.stats.Var()
        for residual in values[1:] - self._correlation * values[:-1]:
            self._residuals.update(float(residual))
        self._previous = float(values[-1])
        self._test = self._library.drift.PageHinkley(
            min_instances=1,
            delta=self._half_shift,
            threshold=self._threshold,
            alpha=1.0,
            mode="both",
        )
        # The test subtracts a running mean of its own. Without these zeros it would take a shift
        # right after the baseline for the usual level.
        for _ in values:
            self._test.update(0.0)


def _correlation(values: Float[np.ndarray, " n"]) -> float:
    """Return the lag-1 autocorrelation, corrected for bias; 0 for a constant metric."""
    centred = values - values.mean()
    power = float((centred**2).sum())
    if power == 0:
        return 0.0
    found = float((centred[1:] * centred[:-1]).sum()) / power
    corrected = found + (1 + 3 * found) / len(values)
    return min(max(corrected, -_MAX_CORRELATION), _MAX_CORRELATION)


def page_hinkley_threshold(expected_interval: float, shift: float) -> float:
    """Return the threshold, in standard deviations, of a two-sided test for `shift` whose average
    run length to a false alarm is `expected_interval` values."""
    reference, low, high = shift / 2, 0.0, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        # Two sides raise twice as many false alarms as one.
        if _run_length(middle, reference) < 2 * expected_interval:
            low = middle
        else:
            high = middle
    return max(low - _MEAN_CORRECTION / shift, 0.0)


def _run_length(threshold: float, reference: float) -> float:
    """Return Siegmund's average run length of a one-sided test."""
    exponent = 2 * reference * (threshold + _OVERSHOOT)
    if exponent > 500:
        return math.inf
    return (math.exp(exponent) - exponent - 1) / (2 * reference**2)


def detect_metric_drift(
    metrics: Mapping[str, Sequence[float]],
    *,
    expected_interval: float = 1000.0,
    shift: float = 1.0,
    baseline: int = 200,
    warn: bool = True,
) -> dict[str, list[int]]:
    """Return the positions at which each metric raised an alarm.

    A series no longer than the baseline raises no alarm. With `warn`, each metric that drifted gets
    one `MetricDriftWarning` with the position and the levels before and after. Settings and errors
    are those of `DriftDetector`.
    """
    alarms = {}
    for name, values in metrics.items():
        detector = DriftDetector(expected_interval, shift, baseline)
        alarms[name] = [at for at, value in enumerate(values) if detector.update(float(value))]
        if warn and alarms[name]:
            warnings.warn(_message(name, values, alarms[name][0]), MetricDriftWarning, stacklevel=2)
    return alarms


def _message(name: str, values: Sequence[float], alarm: int) -> str:
    before, after = np.mean(values[:alarm]), np.mean(values[alarm : alarm + _MIN_BASELINE])
    return f"{name} drifted at value {alarm}: its mean was {before:.4g} before, {after:.4g} after"


def _river() -> Any:
    with extra_imports("river", extra="telemetry", purpose="drift detection"):
        importlib.import_module("river.stats")
        importlib.import_module("river.drift")
        return importlib.import_module("river")
