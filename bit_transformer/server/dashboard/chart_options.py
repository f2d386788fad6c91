"""ECharts options of the charts of a run. Pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bit_transformer.server.dashboard.history import History, latest, points


@dataclass(frozen=True)
class Palette:
    """Chart colours of one theme."""

    text: str
    grid: str
    surface: str
    first: str
    second: str
    warning: str
    floor: str


LIGHT = Palette("#4b5565", "#e3e7ee", "#ffffff", "#4f46e5", "#0d9488", "#b45309", "#be123c")
DARK = Palette("#a8b3c4", "#273144", "#151c2b", "#8b93ff", "#2dd4bf", "#fbbf24", "#fb7185")


@dataclass(frozen=True)
class ChartSpec:
    """One chart, with the metrics of its lines."""

    title: str
    help: str
    floor: str
    """Name of the floor, k, c or s. Empty if the chart has no floor."""
    lines: tuple[tuple[str, str], ...]
    """(label, metric)"""
    unit: str = ""


CHARTS = (
    ChartSpec(
        "Loss",
        "Bits per byte on training data and on held-out data. Lower is better.",
        "",
        (("training", "loss"), ("held-out", "bits_per_byte")),
        "bits per byte",
    ),
    ChartSpec(
        "K: negentropy",
        "How predictable the bits are: 0 means a coin flip, 1 means certain.",
        "k",
        (("predictions", "negentropy_logits"), ("data", "negentropy_input")),
    ),
    ChartSpec(
        "C: complexity",
        "Lempel-Ziv complexity: near 0 means repetition, 1 means random.",
        "c",
        (("predictions", "lz_complexity_logits"), ("data", "lz_complexity_input")),
    ),
    ChartSpec(
        "S: symbiosis",
        "Agreement with an adaptive universal code: 1 means identical predictions.",
        "s",
        (("predictions", "symbiosis_score"),),
    ),
)
METRICS = (
    ("K", "negentropy_logits", "k"),
    ("C", "lz_complexity_logits", "c"),
    ("S", "symbiosis_score", "s"),
)
"""(label, metric of the predictions, name of its floor)"""


def line_of(history: History, metric: str) -> Mapping[int, float]:
    """Return the values of a metric, by step."""
    if metric == "loss":
        return history.loss
    if metric == "bits_per_byte":
        return history.bits_per_byte
    return history.metrics.get(metric, {})


def options_of(spec: ChartSpec, dark: bool) -> dict[str, Any]:
    """Return the options of a chart without data."""
    colours = DARK if dark else LIGHT
    axis = {
        "axisLine": {"lineStyle": {"color": colours.grid}},
        "axisLabel": {"color": colours.text, "hideOverlap": True},
        "splitLine": {"lineStyle": {"color": colours.grid}},
        "nameTextStyle": {"color": colours.text},
    }
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "grid": {"left": 44, "right": 16, "top": 36, "bottom": 28},
        "legend": {
            "right": 8,
            "top": 2,
            "itemWidth": 14,
            "itemHeight": 8,
            "textStyle": {"color": colours.text},
            "data": [label for label, _ in spec.lines],
        },
        "tooltip": _tooltip(colours),
        "xAxis": {"type": "value", "min": "dataMin", "max": "dataMax", **axis}
        | {"splitLine": {"show": False}},
        "yAxis": {"type": "value", "scale": True, "splitNumber": 4, **axis}
        | ({"min": 0, "max": 1, "interval": 0.25} if spec.floor else {}),
        "series": series_of(spec, History(), {}, dark),
    }


def _tooltip(colours: Palette) -> dict[str, Any]:
    return {
        "trigger": "axis",
        "backgroundColor": colours.surface,
        "borderColor": colours.grid,
        "textStyle": {"color": colours.text},
    }


def series_of(
    spec: ChartSpec, history: History, floors: Mapping[str, Mapping[str, float]], dark: bool
) -> list[dict[str, Any]]:
    """Return the lines of a chart, with floors and drift warnings.

    `floors` maps k, c and s to floors by name, as `run_details.floors_of` returns them.
    """
    colours = DARK if dark else LIGHT
    made = [
        _line(label, points(line_of(history, metric)), colour, sparse=metric == "bits_per_byte")
        for (label, metric), colour in zip(
            spec.lines, (colours.first, colours.second), strict=False
        )
    ]
    made[0]["markLine"] = _floor_lines(floors.get(spec.floor, {}), colours)
    for one, (_, metric) in zip(made, spec.lines, strict=True):
        one["markPoint"] = _drift_marks(history.drifts.get(metric, {}), colours)
    return made


def _line(
    label: str, data: Sequence[tuple[float, float]], colour: str, *, sparse: bool
) -> dict[str, Any]:
    return {
        "name": label,
        "type": "line",
        "data": list(data),
        "showSymbol": sparse or len(data) < 2,
        "symbol": "circle",
        "symbolSize": 7,
        "lineStyle": {"width": 2 if sparse else 1.6, "color": colour},
        "itemStyle": {"color": colour},
    }


def _floor_lines(floors: Mapping[str, float], colours: Palette) -> dict[str, Any]:
    return {
        "silent": True,
        "symbol": "none",
        "animation": False,
        "lineStyle": {"color": colours.floor, "type": "dashed", "width": 1.4},
        "label": {
            "position": "insideEndTop",
            "color": colours.floor,
            "formatter": "{b}",
            "fontSize": 11,
        },
        "data": [
            {"yAxis": round(floor, 4), "name": f"{name} {floor:.2f}"}
            for name, floor in floors.items()
        ],
    }


def _drift_marks(drifts: Mapping[int, float], colours: Palette) -> dict[str, Any]:
    return {
        "animation": False,
        "symbol": "triangle",
        "symbolSize": 12,
        "itemStyle": {"color": colours.warning},
        "label": {"show": False},
        "data": [
            {"name": "drift", "coord": [step, round(value, 4)]}
            for step, value in sorted(drifts.items())[-20:]
        ],
    }


def summary_of(spec: ChartSpec, history: History) -> str:
    """Return the newest values as text, for screen readers."""
    values = [
        f"{label} {value:.3f}"
        for label, metric in spec.lines
        if (value := latest(line_of(history, metric))) is not None
    ]
    alarms = sorted({step for _, name in spec.lines for step in history.drifts.get(name, {})})
    drift = f"; drift warnings at steps {', '.join(map(str, alarms[-5:]))}" if alarms else ""
    return f"{spec.title}, newest values: {', '.join(values) or 'none yet'}{drift}"
