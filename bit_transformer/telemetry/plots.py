"""Plots metrics over time, with floors and drift alarms."""

import importlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from bit_transformer.atomic import atomic_write_bytes
from bit_transformer.errors import ConfigError
from bit_transformer.extras import import_extra
from bit_transformer.telemetry.drift import detect_metric_drift
from bit_transformer.telemetry.log import TelemetryLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _COLORS = "#2b2b2b", ("#3b6ea5", "#c1440e", "#5c8a3a", "#8a5ca5")
_PANELS = (
    (
        "K, negentropy",
        {
            "negentropy_input": "data",
            "negentropy_logits": "predictions",
            "k": "predictions",
            "u": "data",
        },
    ),
    (
        "C, complexity",
        {"lz_complexity_input": "data", "lz_complexity_logits": "predictions", "c": "data"},
    ),
    ("S, agreement with the universal code", {"symbiosis_score": "S", "s": "S"}),
    ("T, typicality", {"t": "T"}),
    ("attention entropy, bits", {"attention_entropy_mean": "mean over heads"}),
    ("surprisal, bits per patch", {"surprisal": "surprisal"}),
)
_FLOOR_PANELS = {"k": 0, "c": 1, "s": 2, "t": 3}
_MIN_SMOOTHED = 400
"""A line of at least this many values is drawn faint, with a running mean on top."""
_ALARM_INTERVAL = 10_000.0
"""Average run length to a false alarm: a plot of several hundred values should show hardly any."""


def plot_telemetry(
    log: TelemetryLog | Mapping[str, Sequence[float]],
    path: str | Path,
    *,
    floors: Mapping[str, float] | None = None,
) -> Path:
    """Plot metrics over `step` into a PNG file and return its path.

    Metrics of a forward pass and of a stream share a panel by quantity; any other metric gets its
    own panel. A floor is a dashed line in the panel of the metric it is named after; k, c, s and t
    are the floors of K, C, S and T. If river is installed, alarms of `detect_metric_drift` are
    dotted lines in the colour of the metric. Values that are not finite are left out.

    Raises the errors of `telemetry_picture`, and `StorageError` if the file cannot be written.
    """
    atomic_write_bytes(Path(path), telemetry_picture(log, floors=floors))
    return Path(path)


def telemetry_picture(
    log: TelemetryLog | Mapping[str, Sequence[float]],
    *,
    floors: Mapping[str, float] | None = None,
) -> bytes:
    """Return the PNG that `plot_telemetry` writes.

    Raises `ConfigError` if no metric has a finite value, and `MissingExtraError` without
    matplotlib (extra `plots`).
    """
    columns = log.columns() if isinstance(log, TelemetryLog) else log
    series = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    steps = series.pop("step", None)
    if not any(np.isfinite(values).any() for values in series.values()):
        raise ConfigError("there are no metrics to plot: at least 1 must have a finite value")
    if steps is None:
        steps = np.arange(len(next(iter(series.values()))), dtype=np.float64)
    panels = _panels(series)
    figure = _matplotlib().Figure(figsize=(11, 1.9 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for (title, lines, names), panel in zip(panels, axes, strict=True):
        for color, (label, values) in zip(_COLORS * 3, lines, strict=False):
            _draw(panel, steps, values, label, color)
        _finish(panel, title, lines, [v for n, v in (floors or {}).items() if n in names])
    axes[-1].set_xlabel("step")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


Lines = list[tuple[str, Float[np.ndarray, " n"]]]
Panel = tuple[str, Lines, set[str]]


def _panels(series: Mapping[str, Float[np.ndarray, " n"]]) -> list[Panel]:
    """Return the title, the labelled lines and the names of the floors of each panel."""
    found: list[Panel] = []
    for index, (title, names) in enumerate(_PANELS):
        lines = [(label, series[name]) for name, label in names.items() if name in series]
        if lines:
            short = {name for name, panel in _FLOOR_PANELS.items() if panel == index}
            found.append((title, lines, short | set(names)))
    known = {name for _, names in _PANELS for name in names}
    return found + [(name, [(name, series[name])], {name}) for name in series if name not in known]


def _draw(
    axes: "Axes",
    steps: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    label: str,
    color: str,
) -> None:
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    if len(values) >= _MIN_SMOOTHED:
        width = len(values) // 120 * 2 + 1
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps, values, color=color, linewidth=0.5, alpha=0.35)
        axes.plot(steps[width // 2 : -(width // 2)], mean, color=color, linewidth=1.6, label=label)
    else:
        # A line through a single value would be invisible.
        marker = "o" if len(values) == 1 else None
        axes.plot(steps, values, color=color, linewidth=1.6, marker=marker, label=label)
    for alarm in _alarms(values):
        axes.axvline(float(steps[alarm]), color=color, linestyle=":", linewidth=1.4)


def _alarms(values: Float[np.ndarray, " n"]) -> list[int]:
    if importlib.util.find_spec("river") is None:
        return []
    series = {"metric": values.tolist()}
    return detect_metric_drift(series, expected_interval=_ALARM_INTERVAL, warn=False)["metric"]


def _finish(axes: "Axes", title: str, lines: Lines, floors: list[float]) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    if all(np.nanmin(values, initial=0) >= 0 for _, values in lines):
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for floor in floors:
        axes.axhline(floor, color=_INK, linestyle="--", linewidth=0.8)
    if len(lines) > 1:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _matplotlib() -> Any:
    return import_extra(
        "matplotlib.figure", "matplotlib", extra="plots", purpose="drawing telemetry"
    )
