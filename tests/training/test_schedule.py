"""Schedules are pure functions of the optimizer step."""

import pytest

from bit_transformer.errors import ConfigError
from bit_transformer.ramp import cosine_ramp
from bit_transformer.training.schedule import (
    make_schedule,
    one_cycle,
    warmup_stable_decay,
)


def test_warmup_stable_decay_rises_holds_and_falls_to_zero():
    factor = warmup_stable_decay(total=100, warmup=0.1, decay=0.4)
    values = [factor(step) for step in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert values[9] == 1
    assert set(values[10:60]) == {1.0}
    assert values[60:100] == sorted(values[60:100], reverse=True)
    assert values[99] == pytest.approx(1 / 40)
    assert values[100] == 0


def test_one_cycle_peaks_once_and_stays_low_past_the_end():
    factor = one_cycle(total=50, warmup=0.2)
    values = [factor(step) for step in range(60)]
    assert values[0] == pytest.approx(0.04)
    assert max(values) == values[10] == 1
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[49] == values[59] == pytest.approx(1e-4)


@pytest.mark.parametrize("name", ["wsd", "onecycle", "constant"])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_every_schedule_works_for_very_short_runs(name, total):
    factor = make_schedule(name, total, warmup=0.0, decay=0.5)
    assert all(0 < factor(step) <= 1 for step in range(total))


def test_cosine_ramp_is_level_at_both_ends():
    assert cosine_ramp(0, 0.2, 0.8, 10) == pytest.approx(0.2)
    assert cosine_ramp(5, 0.2, 0.8, 10) == pytest.approx(0.5)
    assert cosine_ramp(10, 0.2, 0.8, 10) == cosine_ramp(99, 0.2, 0.8, 10) == pytest.approx(0.8)
    with pytest.raises(ConfigError, match="total_steps must be at least 1, got 0"):
        cosine_ramp(0, 0, 1, 0)
