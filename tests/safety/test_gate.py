"""Tests of the gate: smoothing, burn-in and calibration."""

import json

import numpy as np
import pytest

from bit_transformer.errors import ConfigError
from bit_transformer.safety.density import MetricDensity
from bit_transformer.safety.gate import SafetyGate, _largest_rate
from tests.safety.conftest import metrics_around


def test_nothing_is_judged_before_the_burn_in_is_over():
    gate = SafetyGate(burn_in=10)
    assert [gate.should_trigger(0.0, 0.0) for _ in range(12)] == [False] * 10 + [True] * 2


def test_metrics_are_exponential_averages():
    gate = SafetyGate(0.5, 0.0, decay=0.9, burn_in=0)
    average = 1.0
    assert not gate.should_trigger(1.0, 1.0)
    for _ in range(20):
        average *= 0.9
        assert gate.should_trigger(0.0, 1.0) == (average < 0.5)


def test_one_bad_patch_does_not_trigger_and_many_do():
    gate = SafetyGate()
    assert not any(gate.should_trigger(0.8, 0.9) for _ in range(30))
    assert not gate.should_trigger(0.0, 0.9)
    assert any(gate.should_trigger(0.0, 0.9) for _ in range(20))


def test_a_reset_gate_is_a_new_one():
    gate = SafetyGate(burn_in=0)
    assert gate.should_trigger(0.0, 0.0)
    gate.reset()
    assert not gate.should_trigger(0.8, 0.9)


def test_following_in_pieces_is_judging_at_once():
    metrics = metrics_around(0, length=80, c=0.31)
    whole = SafetyGate(burn_in=20).judge(metrics, prompt_patches=15)
    pieces = SafetyGate(burn_in=20)
    pieces.observe(metrics.part(0, 15))
    for start in range(15, 80, 4):
        verdict = pieces.follow(metrics.part(start, start + 4))
        if not verdict.passed:
            break
    assert verdict.patch == whole.patch
    assert verdict.passed == whole.passed


def test_a_calibrated_gate_has_the_requested_false_alarm_rate(good):
    for judged in (("f",), ("c", "s", "t")):
        gate = SafetyGate.calibrate(good, 0.02, judged=judged)
        fresh = [metrics_around(5000 + i) for i in range(400)]
        alarms = np.mean([not gate.judge(one).passed for one in fresh])
        assert alarms < 0.06
        assert set(gate.policy.floors) == set(judged)


def test_a_joint_floor_catches_what_no_single_floor_can(good):
    # A table's low C and prose's low K are each common, but never occur together.
    odd = metrics_around(1, c=0.2, k=0.7, u=0.4)
    single = SafetyGate.calibrate(good, 0.02, judged=("k", "c", "s", "t", "u"))
    assert single.judge(odd).passed
    assert not SafetyGate.calibrate(good, 0.02).judge(odd).passed


def test_settings_travel_as_json(good):
    gate = SafetyGate.calibrate(good, 0.02, burn_in=5)
    again = SafetyGate.from_dict(json.loads(json.dumps(gate.to_dict())))
    for seed in range(20):
        metrics = metrics_around(seed, c=0.6 - 0.03 * seed)
        assert gate.judge(metrics) == again.judge(metrics)


def test_familiarity_is_a_rank_among_good_metrics(good):
    rows = np.concatenate([np.stack([g.k, g.c, g.t, g.u], 1) for g in good[:200]])
    density = MetricDensity.fit(rows, components=4)
    found = density.familiarity(rows)
    assert found.mean() == pytest.approx(0.5, abs=0.02)
    assert ((found > 0) & (found <= 1)).all()
    assert (density.familiarity(np.array([[0.0, 1.0, 0.01, 0.0]])) < 0.001).all()


def _with_other_inputs(good) -> dict:
    settings = SafetyGate.calibrate(good, 0.02).to_dict()
    return settings | {"density": settings["density"] | {"inputs": ["k", "c"]}}


def test_bad_settings_are_refused(good):
    for settings in ({"decay": 1.0}, {"burn_in": -1}, {"c_floor": 2.0}, {"floors": {"f": 0.1}}):
        with pytest.raises(ConfigError):
            SafetyGate(**settings)
    with pytest.raises(ConfigError, match="at least 29 sequences, got 28"):
        SafetyGate.calibrate(good[:28], 0.01, judged=("c",))
    with pytest.raises(ConfigError, match="at least 58 sequences"):
        SafetyGate.calibrate(good[:57], 0.01)
    with pytest.raises(ConfigError, match="false_alarm_rate"):
        SafetyGate.calibrate(good, 0.0)
    with pytest.raises(ConfigError, match="are missing"):
        SafetyGate.calibrate(good, 0.02).should_trigger(0.5, 0.5)
    for settings in ({"unknown": 1}, {"density": {"mean": [0.0]}}, _with_other_inputs(good)):
        with pytest.raises(ConfigError):
            SafetyGate.from_dict(settings)


def test_few_sequences_calibrate_a_gate_with_a_wider_bound(good):
    few = SafetyGate.calibrate(good[:40], 0.005, judged=("c",)).calibration
    many = SafetyGate.calibrate(good, 0.005, judged=("c",)).calibration
    # The floor is the lowest value, so the bound is 1 - 0.05 ** (1 / n) for any distribution.
    assert few.guaranteed == pytest.approx(1 - 0.05 ** (1 / 40), abs=1e-5)
    assert (few.windows, few.asked, few.confidence) == (40, 0.005, 0.95)
    assert many.guaranteed < few.guaranteed
    joint = SafetyGate.calibrate(good[:40], 0.005, judged=("c", "s")).calibration
    assert joint.guaranteed > few.guaranteed


def test_the_guaranteed_rate_holds_with_its_confidence():
    # With uniform values the true rate of a floor is the floor itself.
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        lowest = np.sort(rng.random(60))
        rank = max(1, int(0.05 * 60))
        held += lowest[rank] <= _largest_rate(rank + 1, 60)
    assert 0.92 < held / 400 < 0.98


def test_the_calibration_travels_with_the_gate(good):
    gate = SafetyGate.calibrate(good[:80], 0.005)
    assert SafetyGate.from_dict(json.loads(json.dumps(gate.to_dict()))).calibration == (
        gate.calibration
    )
    # Gates saved by older versions have no calibration.
    older = {name: value for name, value in gate.to_dict().items() if name != "calibration"}
    assert SafetyGate.from_dict(older).calibration is None
