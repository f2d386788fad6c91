"""Alarms when a metric leaves its own past, as rare in between as they are asked to be.

Readings are freed of their serial correlation (a first-order autoregression, fitted on a baseline,
with Kendall's correction of its bias: Kendall 1954, Biometrika 41) and become recursive residuals:
each is held against the mean and deviation of those before it, in units of the error of that
prediction, so that what a short baseline leaves unknown brings no alarms (Brown, Durbin and Evans
1975, JRSS B 37). The Page-Hinkley test (Page 1954, Biometrika 41; river's) adds up what lies
beyond half the shift that is looked for. Its threshold comes from the time between false alarms
that is allowed, by Siegmund's approximation of a cumulative sum's average run length (Siegmund
1985, "Sequential Analysis"), two sides taken together. `benchmarks/bench_drift.py` checks the
intervals by simulation.
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
"""Siegmund's correction of the threshold for sums that jump across it."""
_FOLLOWING = 0.2
"""The running mean goes a little of the way with every excursion, so that the threshold can be that
much lower, in units of 1 / shift; fitted to simulated streams at intervals of 500 and 1,000, a
shift of 1 and a baseline of 200. At a shift of 2 alarms come a quarter oftener than asked for,
after a baseline of 50 1.2 to 1.4 times as seldom."""
_LEAST_BASELINE = 30
_STEADIEST = 0.99


class MetricDriftWarning(UserWarning):
    """A metric has left its past."""


class DriftDetector:
    """Watches one metric; learns a new baseline at the start and after each alarm."""

    def __init__(
        self, expected_interval: float = 1000.0, shift: float = 1.0, baseline: int = 200
    ) -> None:
        """`expected_interval`: mean number of readings between false alarms, the baselines not
        counted. `shift`: the change to look for, in standard deviations. `baseline`: readings that
        say what is usual.

        Raises `ConfigError` for values outside their limits, `MissingExtraError` without river.
        """
        require(expected_interval >= 10, "expected_interval", expected_interval, "at least 10")
        require(0.1 <= shift <= 10, "shift", shift, "in [0.1, 10]")
        require(baseline >= _LEAST_BASELINE, "baseline", baseline, f"at least {_LEAST_BASELINE}")
        self._half_shift, self._baseline = shift / 2, baseline
        self._threshold = page_hinkley_threshold(expected_interval, shift)
        self._library = _river()
        self._learn()

    def _learn(self) -> None:
        self._first: list[float] = []
        self._previous = 0.0
        self._test: Any = None

    def update(self, value: float) -> bool:
        """Take one reading; True when it raises the alarm.

        Raises `InvalidPredictionError` for a reading that is not a finite number.
        """
        if not math.isfinite(value):
            raise InvalidPredictionError(
                f"a metric reads {value}, and drift is judged of finite numbers only; find out "
                "what made it so before watching it"
            )
        if self._test is None:
            self._first.append(value)
            if len(self._first) == self._baseline:
                self._begin(np.array(self._first))
            return False
        self._test.update(self._surprise(value))
        if not self._test.drift_detected:
            return False
        self._learn()
        return True

    def _surprise(self, value: float) -> float:
        """How far a reading lies from what those before it predict, in errors of the prediction."""
        residual = value - self._correlation * self._previous
        self._previous = value
        usual = self._spread.mean
        distance, error = residual - usual.get(), math.sqrt(self._spread.get() * (1 + 1 / usual.n))
        self._spread.update(residual)
        if error > 0:
            return distance / error
        # A metric that never moved has no deviation: any move at all is then a great one.
        return math.copysign(1e6, distance) if distance else 0.0

    def _begin(self, values: Float[np.ndarray, " n"]) -> None:
        self._correlation = _correlation(values)
        self._spread = self._library.stats.Var()
        for residual in values[1:] - self._correlation * values[:-1]:
            self._spread.update(float(residual))
        self._previous = float(values[-1])
        self._test = self._library.drift.PageHinkley(
            min_instances=1,
            delta=self._half_shift,
            threshold=self._threshold,
            alpha=1.0,
            mode="both",
        )
        # The test subtracts a mean of its own, which without a past would take a shift that comes
        # soon after the baseline for the usual level.
        for _ in values:
            self._test.update(0.0)


def _correlation(values: Float[np.ndarray, " n"]) -> float:
    """Correlation of each reading with the next; 0 for a metric that never moves."""
    centred = values - values.mean()
    power = float((centred**2).sum())
    if power == 0:
        return 0.0
    found = float((centred[1:] * centred[:-1]).sum()) / power
    return min(max(found + (1 + 3 * found) / len(values), -_STEADIEST), _STEADIEST)


def page_hinkley_threshold(expected_interval: float, shift: float) -> float:
    """Threshold, in standard deviations, at which a two-sided test for `shift` raises a false alarm
    every `expected_interval` readings on average."""
    reference, low, high = shift / 2, 0.0, 1000.0
    for _ in range(100):
        middle = (low + high) / 2
        # Two sides alarm twice as often as one.
        if _run_length(middle, reference) < 2 * expected_interval:
            low = middle
        else:
            high = middle
    return max(low - _FOLLOWING / shift, 0.0)


def _run_length(threshold: float, reference: float) -> float:
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
    """Positions at which each metric raised an alarm; an empty list where it did not.

    A series no longer than the baseline raises none. With `warn`, one `MetricDriftWarning` for each
    metric that drifted says where and from what level to what. Settings and errors are those of
    `DriftDetector`.
    """
    alarms = {}
    for name, values in metrics.items():
        detector = DriftDetector(expected_interval, shift, baseline)
        alarms[name] = [at for at, value in enumerate(values) if detector.update(float(value))]
        if warn and alarms[name]:
            warnings.warn(_message(name, values, alarms[name][0]), MetricDriftWarning, stacklevel=2)
    return alarms


def _message(name: str, values: Sequence[float], alarm: int) -> str:
    before, after = np.mean(values[:alarm]), np.mean(values[alarm : alarm + _LEAST_BASELINE])
    return (
        f"{name} left its past at reading {alarm}: {before:.4g} on average before, "
        f"{after:.4g} after"
    )


def _river() -> Any:
    with extra_imports("river", extra="telemetry", purpose="watching metrics for drift"):
        importlib.import_module("river.stats")
        importlib.import_module("river.drift")
        return importlib.import_module("river")
