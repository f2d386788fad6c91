"""Renders a file coloured by surprisal, as one HTML page without scripts or links."""

import html
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from bit_transformer.inference.score import Score

_BINS = 12
_TOP_BITS = 12.0
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Surprisal of {name}</title>
<style>
:root {{ color-scheme: light dark; --hot: 24 75% 50%; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; }}
body {{ margin: 2rem auto; padding: 0 1rem; }}
pre {{ font: 14px/1.6 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }}
.scale span {{ display: inline-block; width: 3.2rem; text-align: center; font-size: 12px; }}
i {{ font-style: normal; opacity: .55; }}
{shades}
</style></head><body>
<h1>{name}</h1>
<p><strong>{bits_per_byte:.3f} bits per byte</strong>, {figures}, over {count:,} bytes,
read in windows of {window:,} bytes, of which {overlap:,} are context.
The most surprising byte has {most:.1f} bits.</p>
<p class="scale" aria-label="Colour scale in bits per byte">{scale}</p>
<pre>{body}</pre>
</body></html>
"""


STATIC = "static (the network alone)"
MIXED = "adaptive (network and context mixer, which learns from each byte after it is scored)"
ADAPTED = {
    "head": "adaptive (the network, whose head learns from each byte after it is scored)",
    "memory": "adaptive (the network, whose head and context memory learn from what was scored)",
}
"""The kinds of figures. A page or a line that shows figures says which they are."""


def paint(data: bytes, score: Score, *, name: str, figures: str = STATIC) -> str:
    """Return the HTML page, which says that its figures are `figures`.

    The colour of a character is its mean surprisal per byte, and its title gives its bits. Bytes
    that are not valid UTF-8 are shown in hexadecimal.
    """
    edges = np.linspace(0, _TOP_BITS, _BINS + 1)
    shades = "\n".join(
        f".s{i} {{ background: hsl(var(--hot) / {i / _BINS * 0.9:.2f}); }}" for i in range(_BINS)
    )
    scale = "".join(f'<span class="s{i}">{edges[i]:.0f}+</span>' for i in range(_BINS))
    return _PAGE.format(
        name=html.escape(name),
        shades=shades,
        scale=scale,
        bits_per_byte=score.bits_per_byte,
        figures=html.escape(figures),
        count=len(data),
        window=score.window_bytes,
        overlap=score.overlap_bytes,
        most=float(score.surprisal.max()),
        body="".join(_spans(data, score.surprisal)),
    )


def _spans(data: bytes, surprisal: Float[np.ndarray, " n"]) -> Iterator[str]:
    """Yield one HTML span per character."""
    for text, start, stop in _characters(data):
        bits = float(surprisal[start:stop].sum())
        shade = min(int(bits / (stop - start) / _TOP_BITS * _BINS), _BINS - 1)
        shown = html.escape(text) if len(text) == 1 else f"<i>{text}</i>"
        yield f'<span class="s{shade}" title="{bits:.2f} bits">{shown}</span>'


def _characters(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (shown text, first byte, end) of each character and of each byte outside UTF-8."""
    position = 0
    while position < len(data):
        length = _character_length(data, position)
        piece = data[position : position + max(length, 1)]
        text = piece.decode() if length else f"{piece[0]:02x}"
        visible = text.isprintable() or text in "\n\t"
        yield (text if visible else f"{piece[0]:02x}"), position, position + len(piece)
        position += len(piece)


def _character_length(data: bytes, position: int) -> int:
    """Return the length in bytes of the UTF-8 character at `position`, 0 if it is invalid."""
    for length in range(1, 5):
        try:
            data[position : position + length].decode()
        except UnicodeDecodeError:
            continue
        return length if position + length <= len(data) else 0
    return 0
