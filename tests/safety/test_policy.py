"""Tests of the verdict, which depends on metrics and floors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.errors import ConfigError, InvalidPredictionError
from bit_transformer.safety.policy import DOCUMENTED_FLOORS, Policy

unit = st.floats(0, 1)


@given(
    st.dictionaries(st.sampled_from("kcstuf"), unit),
    st.fixed_dictionaries({name: unit for name in "kcstuf"}),
)
def test_a_verdict_fails_exactly_for_metrics_below_their_floors(floors, metrics):
    verdict = Policy(floors).decide(metrics)
    below = [name for name in floors if metrics[name] < floors[name]]
    assert verdict.passed == (not below)
    assert len(verdict.reasons) == len(below)


def test_a_reason_names_metric_value_and_floor():
    (reason,) = Policy().decide({"c": 0.25, "s": 0.9}).reasons
    assert "C" in reason
    assert "0.25" in reason
    assert "0.3" in reason


def test_the_documented_floors_are_those_of_the_documents():
    assert dict(DOCUMENTED_FLOORS) == {"c": 0.3, "s": 0.5}


@pytest.mark.parametrize("floor", [-0.1, 1.1, math.nan])
def test_floors_outside_the_unit_interval_are_refused(floor):
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        Policy({"c": floor})


def test_unknown_metrics_and_nan_are_refused():
    with pytest.raises(ConfigError, match="unknown metric 'x'"):
        Policy({"x": 0.5})
    with pytest.raises(InvalidPredictionError, match="NaN"):
        Policy().decide({"c": math.nan, "s": 1.0})
