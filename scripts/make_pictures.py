"""Draw the pictures of README.md and docs/tour.md from what the tour leaves behind.

    python scripts/make_tour.py
    python scripts/make_pictures.py

Needs the extra `plots`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import colors, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from bit_transformer.lm import BitTransformerLM

ROOT = Path(__file__).resolve().parent.parent
RUN, FILES, IMAGES = ROOT / "runs" / "tour", ROOT / "tour", ROOT / "docs" / "images"
INK, MUTED = "#1f2328", "#6e7781"
HEAT = colors.LinearSegmentedColormap.from_list(
    "heat", ["#ffffff", "#ffe2c2", "#ff9d4d", "#d9480f"]
)
MAX_BITS = 12.0
"""Surprisal, in bits, from which a byte has the strongest colour."""
PALETTE = 64
"""Colours of a stored picture. Few colours make a small file."""


def main() -> None:
    pyplot.rcParams.update({"font.size": 9, "text.color": INK})
    IMAGES.mkdir(exist_ok=True)
    drawn = IMAGES / "surprisal.png"
    painted_file(FILES / "odd.py").savefig(drawn, dpi=120, bbox_inches="tight", pad_inches=0.1)
    _store(drawn, "surprisal.png")
    _store(RUN / "telemetry.png", "training.png")
    _store(FILES / "mixed.png", "telemetry.png")


def painted_file(file: Path) -> Figure:
    """Draw a text file with each byte coloured by its surprisal, and the mean of each line."""
    data = file.read_bytes()
    surprisal = BitTransformerLM.from_pretrained(str(RUN)).score(data).surprisal
    lines = data.splitlines(keepends=True)
    per_line = np.split(surprisal, np.cumsum([len(line) for line in lines])[:-1])
    figure, (text, bars) = pyplot.subplots(
        1,
        2,
        sharey=True,
        figsize=(10.4, 0.21 * len(lines) + 0.75),
        gridspec_kw={"width_ratios": [5.2, 1], "wspace": 0.03},
    )
    _draw_text(text, lines, per_line)
    _draw_means(bars, lines, per_line)
    title = (
        f"{file.name}: {surprisal.mean():.2f} bits per byte, each byte coloured by its surprisal"
    )
    text.set_title(title, loc="left", fontsize=10)
    return figure


def _draw_text(axes: Axes, lines: Sequence[bytes], per_line: Sequence[Any]) -> None:
    columns = max(map(len, lines))
    grid = np.zeros((len(lines), columns))
    for row, values in zip(grid, per_line, strict=True):
        row[: len(values)] = values
    extent = (0, columns, len(lines), 0)
    axes.imshow(grid, cmap=HEAT, vmin=0, vmax=MAX_BITS, aspect="auto", extent=extent)
    for at, line in enumerate(lines):
        for column, letter in enumerate(line.decode("ascii", "replace").rstrip("\n")):
            place = (column + 0.5, at + 0.55)
            axes.text(*place, letter, family="monospace", size=8.5, ha="center", va="center")
    axes.axis("off")


def _draw_means(axes: Axes, lines: Sequence[bytes], per_line: Sequence[Any]) -> None:
    """Draw a bar for each line that is not blank."""
    means = {at: float(per_line[at].mean()) for at, line in enumerate(lines) if line.strip()}
    highest = max(means.values())
    for at, mean in means.items():
        axes.barh(at + 0.5, mean, height=0.7, color=HEAT(0.25 + 0.75 * mean / highest))
        axes.text(mean + 0.08, at + 0.5, f"{mean:.1f}", size=7.5, color=MUTED, va="center")
    axes.set_xlim(0, highest * 1.2)
    axes.set_title("bits per byte of the line", loc="left", fontsize=10)
    axes.axis("off")


def _store(picture: Path, name: str) -> None:
    """Store a picture among the images of the documents, with a palette."""
    stored = IMAGES / name
    Image.open(picture).convert("RGB").quantize(PALETTE).save(stored, optimize=True)
    print(f"docs/images/{name}: {stored.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
