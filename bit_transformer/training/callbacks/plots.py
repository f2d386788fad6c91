"""Draws the curves of a run: loss, held-out bits per byte, learning rate and gradient norm."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from bit_transformer.atomic import atomic_write_bytes
from bit_transformer.training.callbacks.base import Callback, RunningTrainer
from bit_transformer.training.run_folder import read_metrics
from bit_transformer.waiting import waiting

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_SMOOTHED = 25
_INK, _LOSS, _HELD_OUT, _OTHER = "#2b2b2b", "#9fb8d0", "#c1440e", "#3b6ea5"


def can_plot() -> bool:
    """Whether matplotlib (extra: plots) is installed."""
    return importlib.util.find_spec("matplotlib") is not None


class Plots(Callback):
    """Draws `metrics.jsonl` when a checkpoint is saved and at the end."""

    def __init__(self, metrics: Path, picture: Path) -> None:
        self._metrics, self._picture = metrics, picture

    def on_checkpoint(self, trainer: RunningTrainer, path: Path) -> None:
        """Draw the run up to now."""
        self._draw()

    def on_end(self, trainer: RunningTrainer) -> None:
        """Draw the whole run."""
        self._draw()

    def _draw(self) -> None:
        with waiting("drawing the curves of the run"):
            draw_run(read_metrics(self._metrics), self._picture)


def draw_run(records: list[dict[str, Any]], picture: Path) -> None:
    """Write a PNG of the records of a metrics file."""
    from io import BytesIO

    from matplotlib.figure import Figure

    steps = [record for record in records if record["kind"] == "step"]
    if not steps:
        return
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplot_mosaic([["loss", "loss", "lr"], ["loss", "loss", "norm"]])
    _draw_loss(axes["loss"], steps, [r for r in records if r["kind"] == "evaluation"])
    _mark_returns(axes["loss"], steps, [r for r in records if r.get("action") == "return"])
    x = _column(steps, "data_bytes") / 1e6
    _draw_line(axes["lr"], x, _column(steps, "lr"), "learning rate of the matrices")
    _draw_line(axes["norm"], x, _column(steps, "gradient_norm"), "gradient norm")
    axes["norm"].set_xlabel("megabytes read")
    image = BytesIO()
    figure.savefig(image, format="png", dpi=110)
    atomic_write_bytes(picture, image.getvalue())


def _draw_loss(axes: "Axes", steps: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> None:
    x, loss = _column(steps, "data_bytes") / 1e6, _column(steps, "loss")
    axes.plot(x, loss, color=_LOSS, linewidth=0.6, alpha=0.7, label="training windows")
    if len(loss) >= 2 * _SMOOTHED:
        mean = np.convolve(loss, np.ones(_SMOOTHED) / _SMOOTHED, mode="valid")
        axes.plot(
            x[_SMOOTHED - 1 :], mean, color=_OTHER, label=f"their mean over {_SMOOTHED} steps"
        )
    if held_out:
        at = np.interp(_column(held_out, "step"), _column(steps, "step"), x)
        found = _column(held_out, "bits_per_byte")
        label = f"held out: {found[-1]:.3f}"
        axes.plot(at, found, color=_HELD_OUT, marker="o", markersize=4, label=label)
    # Without a limit, the fall from 8 bits per byte would flatten the rest of the curve.
    top = np.quantile(loss, 0.98) if len(loss) > 50 else loss.max()
    axes.set_ylim(top=float(top) * 1.02)
    axes.set_xlabel("megabytes read")
    axes.set_title("bits per byte", loc="left", color=_INK)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def _mark_returns(axes: "Axes", steps: list[dict[str, Any]], returns: list[dict[str, Any]]) -> None:
    """Draw a vertical line at each step to which a recovery returned."""
    for record in returns:
        at = np.interp(record["step"], _column(steps, "step"), _column(steps, "data_bytes") / 1e6)
        axes.axvline(float(at), color=_HELD_OUT, linewidth=0.8, linestyle=":")


def _draw_line(
    axes: "Axes", x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], title: str
) -> None:
    axes.plot(x, y, color=_OTHER, linewidth=1)
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.grid(alpha=0.25)


def _column(records: list[dict[str, Any]], name: str) -> Float[np.ndarray, " n"]:
    return np.array([record[name] for record in records], dtype=float)
