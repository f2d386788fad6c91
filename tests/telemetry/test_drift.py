"""Tests of drift detection: the time to a false alarm, and the delay until a shift is found."""

import warnings

import numpy as np
import pytest

from bit_transformer.errors import ConfigError, InvalidPredictionError
from bit_transformer.telemetry.drift import (
    DriftDetector,
    MetricDriftWarning,
    detect_metric_drift,
    page_hinkley_threshold,
)


def _stream(rng: np.random.Generator, length: int, correlation: float = 0.0) -> np.ndarray:
    noise = rng.standard_normal(length)
    values = np.zeros(length)
    for i in range(length):
        values[i] = noise[i] + (correlation * values[i - 1] if i else 0)
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_average_run_length_is_the_requested_one(correlation):
    rng, values, alarms = np.random.default_rng(0), 0, 0
    for _ in range(60):
        detector, learning = DriftDetector(expected_interval=200), 200
        for value in _stream(rng, 2500, correlation):
            alarm = detector.update(float(value))
            values, learning = values + (learning == 0), max(0, learning - 1)
            if alarm:
                alarms, learning = alarms + 1, 200
    assert values / alarms == pytest.approx(200, rel=0.3)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_shift_is_found_soon(sign):
    rng, delays = np.random.default_rng(1), []
    for _ in range(20):
        values = _stream(rng, 500)
        values[300:] += sign * 2
        alarms = detect_metric_drift({"k": values.tolist()}, warn=False)["k"]
        delays.append(min((at for at in alarms if at >= 300), default=500) - 300)
    assert np.median(delays) < 15


@pytest.mark.parametrize("after", [0, 5, 50])
def test_a_shift_soon_after_the_baseline_is_found(after):
    rng, found = np.random.default_rng(3), 0
    for _ in range(20):
        values = _stream(rng, 300 + after)
        values[200 + after :] += 1
        found += bool(detect_metric_drift({"k": values.tolist()}, warn=False)["k"])
    assert found >= 19


def test_a_warning_names_the_metric_and_the_position():
    values = _stream(np.random.default_rng(2), 400)
    values[300:] += 5
    with pytest.warns(MetricDriftWarning, match="s drifted at value 30"):
        found = detect_metric_drift({"s": values.tolist()}, expected_interval=10_000)
    assert len(found["s"]) == 1


def test_short_and_constant_series_raise_no_alarm():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detect_metric_drift({"a": [1.0] * 200, "b": [0.5] * 1000, "c": []}) == {
            "a": [],
            "b": [],
            "c": [],
        }
    assert detect_metric_drift({"d": [0.5] * 500 + [0.6]}, warn=False)["d"] == [500]


def test_longer_intervals_need_higher_thresholds():
    thresholds = [page_hinkley_threshold(interval, 1.0) for interval in (100, 1000, 10_000)]
    assert thresholds == sorted(thresholds)
    assert page_hinkley_threshold(1000, 2.0) < page_hinkley_threshold(1000, 0.5)


def test_bad_input_is_refused():
    for settings in ({"expected_interval": 1}, {"shift": 0}, {"baseline": 5}):
        with pytest.raises(ConfigError):
            DriftDetector(**settings)
    with pytest.raises(InvalidPredictionError, match="nan"):
        DriftDetector().update(float("nan"))
