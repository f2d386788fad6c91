"""Draws the pictures of README.md and docs/tour.md from a run and a file that it did not see.

    python scripts/make_pictures.py runs/tour odd.py

docs/tour.md has the commands that make both. Needs the extra `plots`.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import colors, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
INK, MUTED, GRID = "#1f2328", "#6e7781", "#d8dee4"
BLUE, ORANGE, GREEN = "#3b6ea5", "#c1440e", "#5c8a3a"
HEAT = colors.LinearSegmentedColormap.from_list("heat", ["#ffffff", "#ffe2c2", "#ff9d4d", "#d9480f"])
TOP_BITS = 12.0
"""Surprisal from which a byte has the strongest colour."""
SMOOTHING = 25
"""Steps that the training curve is averaged over."""

Records = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of a training that has ended")
    parser.add_argument("file", type=Path, help="short text file to paint")
    arguments = parser.parse_args()
    pyplot.rcParams.update({"font.size": 9, "text.color": INK, "svg.fonttype": "none"})
    IMAGES.mkdir(exist_ok=True)
    _save(painted_file(arguments.run, arguments.file), "surprisal.png")
    _save(training_curves(arguments.run), "training.png")


def painted_file(run: Path, file: Path) -> Figure:
    """A file, every byte coloured by its surprisal, and beside each line that has text its mean."""
    from bit_transformer import BitTransformerLM

    data = file.read_bytes()
    surprisal = BitTransformerLM.from_pretrained(str(run)).score(data).surprisal
    lines = data.splitlines(keepends=True)
    per_line = np.split(surprisal, np.cumsum([len(line) for line in lines])[:-1])
    columns = max(map(len, lines))
    size = (10.4, 0.21 * len(lines) + 0.75)
    figure, (text, bars) = pyplot.subplots(
        1, 2, sharey=True, figsize=size, gridspec_kw={"width_ratios": [5.2, 1], "wspace": 0.03}
    )
    _paint(text, lines, per_line, columns)
    _draw_means(bars, [float(values.mean()) if len(values) > 1 else 0.0 for values in per_line])
    title = f"{file.name}: {surprisal.mean():.2f} bits per byte"
    text.set_title(f"{title}, each byte coloured by its surprisal", loc="left", fontsize=10)
    return figure


def _paint(axes: Axes, lines: Sequence[bytes], per_line: Sequence[Any], columns: int) -> None:
    grid = np.zeros((len(lines), columns))
    for row, values in zip(grid, per_line, strict=True):
        row[: len(values)] = values
    extent = (0, columns, len(lines), 0)
    axes.imshow(grid, cmap=HEAT, vmin=0, vmax=TOP_BITS, aspect="auto", extent=extent)
    for at, line in enumerate(lines):
        for column, letter in enumerate(line.decode("ascii", "replace").rstrip("\n")):
            place = (column + 0.5, at + 0.55)
            axes.text(*place, letter, family="monospace", size=8.5, ha="center", va="center")
    axes.axis("off")


def _draw_means(axes: Axes, means: Sequence[float]) -> None:
    places = np.arange(len(means)) + 0.5
    shades = HEAT(0.25 + 0.75 * np.minimum(np.array(means) / max(means), 1))
    axes.barh(places, means, height=0.7, color=shades)
    for place, mean in zip(places, means, strict=True):
        if mean:
            axes.text(mean + 0.08, place, f"{mean:.1f}", size=7.5, color=MUTED, va="center")
    axes.set_xlim(0, max(means) * 1.2)
    axes.set_title("bits per byte of the line", loc="left", fontsize=10)
    axes.axis("off")


def training_curves(run: Path) -> Figure:
    """Bits per byte while training, beside compressors; then K, C and S."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    report = json.loads((run / "report.json").read_text())
    figure = pyplot.figure(figsize=(10.4, 4.2), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=[1.7, 1])
    _draw_loss(figure.add_subplot(grid[:, 0]), records, report)
    panels = (
        ("K of predictions, order", "negentropy_logits", BLUE),
        ("C of predictions, complexity", "lz_complexity_logits", GREEN),
        ("S, agreement with the reference", "symbiosis_score", ORANGE),
    )
    for row, (title, name, color) in enumerate(panels):
        axes = figure.add_subplot(grid[row, 1])
        steps, values = _series([r for r in records if r["kind"] == "telemetry"], name)
        axes.plot(steps, values, color=color, linewidth=1.4)
        axes.set_ylim(0, 1.05)
        _tidy(axes, title)
        if row < len(panels) - 1:
            axes.set_xticklabels([])
    axes.set_xlabel("step", color=MUTED)
    return figure


def _draw_loss(axes: Axes, records: Records, report: dict[str, Any]) -> None:
    steps = [record for record in records if record["kind"] == "step"]
    loss = np.array([record["loss"] for record in steps])
    mean = np.convolve(loss, np.ones(SMOOTHING) / SMOOTHING, mode="valid")
    axes.plot(loss, color="#c3d3e4", linewidth=0.7, label="training windows")
    axes.plot(
        np.arange(SMOOTHING - 1, len(loss)),
        mean,
        color=BLUE,
        label=f"their mean over {SMOOTHING} steps",
    )
    held_out = report["held_out_bits_per_byte"]
    axes.plot(len(loss), held_out, "o", color=ORANGE, label=f"held out: {held_out:.3f}")
    compressors = sorted(report["baselines"].items(), key=lambda pair: pair[1])
    for name, value in (compressors[0], compressors[-1]):
        axes.axhline(value, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.text(len(loss), value + 0.03, f"{name} {value:.2f}", ha="right", color=MUTED)
    axes.set_ylim(1, 4.2)
    axes.set_xlabel("step", color=MUTED)
    axes.legend(frameon=False, loc="upper center")
    _tidy(axes, "bits per byte; dashed: best and worst compressor on the held-out bytes")


def _series(records: Records, name: str) -> tuple[list[int], list[float]]:
    return [r["step"] for r in records], [r["readings"][name] for r in records]


def _tidy(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(colors=MUTED, length=0)
    axes.spines[:].set_visible(False)


def _save(figure: Figure, name: str) -> None:
    path = IMAGES / name
    figure.savefig(path, dpi=120, facecolor="white", bbox_inches="tight", pad_inches=0.1)
    print(f"{os.path.relpath(path)}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
