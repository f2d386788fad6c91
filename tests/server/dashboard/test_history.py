"""Records become lines of a chart. Thinning them out keeps ends and extremes."""

import math

from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.server.dashboard.chart_options import (
    CHARTS,
    DARK,
    LIGHT,
    options_of,
    series_of,
    summary_of,
)
from bit_transformer.server.dashboard.history import MAX_POINTS, History, points, thinned

VALUES = st.lists(st.floats(-1e6, 1e6), max_size=3000)


@given(VALUES)
def test_thinning_keeps_ends_extremes_and_order(values: list[float]) -> None:
    line = list(enumerate(values))
    found = thinned(line)
    assert len(found) <= MAX_POINTS
    assert found == sorted(found, key=lambda point: point[0])
    assert set(found) <= set(line)
    if values:
        assert (found[0], found[-1]) == (line[0], line[-1])
        assert max(y for _, y in found) == max(values)
        assert min(y for _, y in found) == min(values)


def step(number: int, loss: float = 1.0) -> dict[str, object]:
    return {
        "kind": "step",
        "step": number,
        "loss": loss,
        "data_bytes": number * 100,
        "seconds": number * 0.5,
    }


def test_records_may_arrive_twice_and_in_any_order() -> None:
    history = History()
    for number in (2, 1, 2):
        history.add(step(number, float(number)))
    assert points(history.loss) == [(1, 1.0), (2, 2.0)]


def test_speed_is_of_the_newest_steps() -> None:
    history = History()
    history.add(step(1))
    assert history.speed is None
    history.add(step(2))
    assert history.speed == 200


def test_a_recovery_drops_what_came_after_its_step() -> None:
    history = History()
    for number in (1, 2, 3):
        history.add(step(number))
    history.add({"kind": "telemetry", "step": 3, "readings": {"symbiosis_score": 0.5}})
    history.add({"kind": "sample", "step": 3, "text": "abc"})
    history.add({"kind": "recovery", "step": 1})
    assert list(history.loss) == [1]
    assert not history.samples
    assert not history.metrics["symbiosis_score"]


def test_nan_values_and_unknown_records_are_ignored() -> None:
    history = History()
    history.add(step(1, math.nan))
    history.add({"kind": "telemetry", "step": 1, "readings": {"a": None}})
    version = history.version
    history.add({"kind": "checkpoint", "step": 1})
    history.add({"kind": "__class__", "step": 1})
    assert history.version == version
    assert not history.loss
    assert not history.metrics["a"]


def test_floors_and_drift_warnings_are_drawn_in() -> None:
    history = History()
    history.add({"kind": "telemetry", "step": 4, "readings": {"lz_complexity_logits": 0.2}})
    drift = {"kind": "drift", "step": 4, "reading": "lz_complexity_logits", "value": 0.2}
    history.add(drift)
    complexity = next(spec for spec in CHARTS if spec.floor == "c")
    series = series_of(complexity, history, {"c": {"floor": 0.3, "gate": 0.41}}, dark=False)
    assert [line["name"] for line in series[0]["markLine"]["data"]] == ["floor 0.30", "gate 0.41"]
    assert series[0]["markPoint"]["data"] == [{"name": "drift", "coord": [4, 0.2]}]
    words = summary_of(complexity, history)
    assert words.endswith("predictions 0.200; drift warnings at steps 4")


def test_both_themes_have_enough_contrast() -> None:
    for colours in (LIGHT, DARK):
        for colour in (colours.text, colours.first, colours.second, colours.warning, colours.floor):
            assert _contrast(colour, colours.surface) >= 3.0
        assert _contrast(colours.text, colours.surface) >= 4.5
    assert options_of(CHARTS[0], True) != options_of(CHARTS[0], False)


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
