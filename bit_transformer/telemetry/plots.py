"""A picture of readings over time, floors and drift alarms marked."""

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from bit_transformer.errors import ConfigError, MissingExtraError, StorageError
from bit_transformer.telemetry.drift import detect_metric_drift
from bit_transformer.telemetry.log import TelemetryLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _COLORS = "#2b2b2b", ("#3b6ea5", "#c1440e", "#5c8a3a", "#8a5ca5")
_PANELS = (
    (
        "K, order",
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
    ("S, agreement with the reference", {"symbiosis_score": "S", "s": "S"}),
    ("T, typicality", {"t": "T"}),
    ("attention entropy, bits", {"attention_entropy_mean": "mean over heads"}),
    ("surprisal, bits a patch", {"surprisal": "surprisal"}),
)
_FLOORED = {"k": 0, "c": 1, "s": 2, "t": 3}
_SMOOTHED_FROM = 400


def plot_telemetry(
    log: TelemetryLog | Mapping[str, Sequence[float]],
    path: str | Path,
    *,
    floors: Mapping[str, float] | None = None,
) -> Path:
    """Draw readings over `step` into a PNG, one panel a quantity; returns its path.

    Takes the names of a forward pass (`readings.py`) and of a stream (`stream.py`); others get a
    panel each. `floors` of k, c, s and t are dashed lines, alarms of `detect_metric_drift` dots on
    the lower edge where river is installed.

    Raises `ConfigError` when there is nothing to draw, `MissingExtraError` without matplotlib
    (extra `plots`), `StorageError` when the picture cannot be written.
    """
    columns = log.columns() if isinstance(log, TelemetryLog) else log
    series = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    steps = series.pop("step", None)
    if not series or not all(map(len, series.values())):
        raise ConfigError("there are no readings to draw: 0 given, at least 1 is needed")
    if steps is None:
        steps = np.arange(len(next(iter(series.values()))), dtype=np.float64)
    panels = _panels(series)
    figure = _matplotlib().Figure(figsize=(11, 1.9 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for (title, lines, floor), panel in zip(panels, axes, strict=True):
        for color, (label, values) in zip(_COLORS * 3, lines, strict=False):
            _draw(panel, steps, values, label, color)
        _finish(panel, title, (floors or {}).get(floor or ""), legend=len(lines) > 1)
    axes[-1].set_xlabel("step")
    _write(figure, Path(path))
    return Path(path)


Panel = tuple[str, list[tuple[str, Float[np.ndarray, " n"]]], str | None]


def _panels(series: Mapping[str, Float[np.ndarray, " n"]]) -> list[Panel]:
    """Title, labelled lines, and whose floor is shown, of each panel that has something to show."""
    found: list[Panel] = []
    floors = {index: name for name, index in _FLOORED.items()}
    for index, (title, names) in enumerate(_PANELS):
        lines = [(label, series[name]) for name, label in names.items() if name in series]
        if lines:
            found.append((title, lines, floors.get(index)))
    known = {name for _, names in _PANELS for name in names}
    return found + [(name, [(name, series[name])], None) for name in series if name not in known]


def _draw(
    axes: "Axes",
    steps: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    label: str,
    color: str,
) -> None:
    crowded = len(values) >= _SMOOTHED_FROM
    axes.plot(steps, values, color=color, linewidth=0.5, alpha=0.35 if crowded else 0.9)
    if crowded:
        width = len(values) // 60
        mean = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps[width - 1 :], mean, color=color, linewidth=1.6, label=label)
    else:
        axes.plot(steps, values, color=color, linewidth=1.6, label=label)
    alarms = _alarms(values)
    if alarms:
        axes.plot(
            steps[alarms], np.zeros(len(alarms)), "v", color=color, markersize=6, clip_on=False
        )


def _alarms(values: Float[np.ndarray, " n"]) -> list[int]:
    if not np.isfinite(values).all() or importlib.util.find_spec("river") is None:
        return []
    return detect_metric_drift({"metric": values.tolist()}, warn=False)["metric"]


def _finish(axes: "Axes", title: str, floor: float | None, *, legend: bool) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    if floor is not None:
        axes.axhline(floor, color=_INK, linestyle="--", linewidth=0.8)
    if legend:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _write(figure: Any, path: Path) -> None:
    """Whole or not at all."""
    try:
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".png")
        os.close(handle)
        try:
            figure.savefig(partial, format="png", dpi=110)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; name another place") from error


def _matplotlib() -> Any:
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError(
            "drawing telemetry needs matplotlib; install bit-transformer[plots]"
        ) from error
