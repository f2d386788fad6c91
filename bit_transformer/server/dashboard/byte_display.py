"""A byte as text and as its path in the bit tree, drawn as SVG. Pure functions."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

_STEP, _SWING, _MIDDLE = 74, 26, 74
"""Pixels: from bit to bit, from the middle up or down, and from the top to the middle."""
_HOTTEST = 8.0
"""Bits of surprisal at which the colour is strongest."""
_WHITESPACE = {
    " ": ("space", "\u2423"),
    "\n": ("newline", "\u21b5"),
    "\t": ("tab", "\u2192"),
    "\r": ("carriage return", "\u2190"),
}
"""Name and symbol of invisible characters. The symbols are in every common font."""


def heat(surprisal: float) -> float:
    """Return the opacity of the colour for a surprisal in bits, in [0, 0.75]."""
    return round(0.75 * min(max(surprisal, 0.0) / _HOTTEST, 1.0), 3)


def symbol_of(text: str) -> str:
    """Return the text of a byte, with a visible symbol for whitespace."""
    return _WHITESPACE[text][1] if text in _WHITESPACE else text


def inline_html(patch: Mapping[str, Any]) -> str:
    """Return the HTML of a patch within running text: line breaks and tabs are marked."""
    text = str(patch["shown"]) or str(patch["bits"])
    # Browsers draw nothing for a carriage return.
    if text == "\r":
        return symbol_of(text)
    return symbol_of(text) + text if text in ("\n", "\t") else html.escape(text)


def name_of(patch: Mapping[str, Any]) -> str:
    """Return the name of a patch: its character, the name of whitespace, or its bits."""
    text = str(patch["shown"])
    if not text:
        return f"bits {patch['bits']}"
    return _WHITESPACE[text][0] if text in _WHITESPACE else text


def description_of(patch: Mapping[str, Any]) -> str:
    """Return the name and the surprisal of a patch."""
    return f"{name_of(patch)}, {patch['surprisal']:.2f} bits"


def text_of(patches: Sequence[Mapping[str, Any]]) -> str:
    """Return the text that the bits of the patches encode. Invalid UTF-8 becomes U+FFFD."""
    # A patch of nine bits is a byte and its parity bit.
    bits = "".join(p["bits"][:8] if len(p["bits"]) == 9 else p["bits"] for p in patches)
    content = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) // 8 * 8, 8))
    return content.decode(errors="replace")


def bit_tree(patch: Mapping[str, Any]) -> str:
    """Return an SVG of the path of a patch in the bit tree.

    Each bit shows both branches with their probabilities; the branch taken is highlighted.
    """
    bits, ones = str(patch["bits"]), patch["p_ones"]
    width = _STEP * len(bits) + 40
    parts, x, y = [], 16.0, float(_MIDDLE)
    for bit, p_one in zip(bits, ones, strict=True):
        taken = int(bit)
        parts += _branches(x, y, taken, p_one)
        x, y = x + _STEP, _MIDDLE + (_SWING if taken else -_SWING)
    parts.append(_circle(x, y, "var(--bt-accent)"))
    path = ", ".join(_bit_description(b, p) for b, p in zip(bits, ones, strict=True))
    return (
        f'<svg viewBox="0 0 {width} {2 * _MIDDLE}" width="{width}" role="img" '
        f'aria-label="Bit tree: {path}" style="max-width:100%;min-width:560px;height:auto">'
        f"{''.join(parts)}</svg>"
    )


def _bit_description(bit: str, p_one: float) -> str:
    return f"bit {bit} with {p_one if bit == '1' else 1 - p_one:.0%}"


def _branches(x: float, y: float, taken: int, p_one: float) -> list[str]:
    parts = []
    # The branch that was taken is drawn last, on top of the other.
    for bit in (1 - taken, taken):
        p = p_one if bit else 1 - p_one
        end_x, end_y = x + _STEP, _MIDDLE + (_SWING if bit else -_SWING)
        colour = "var(--bt-accent)" if bit == taken else "var(--bt-muted)"
        style = f'stroke="{colour}" stroke-width="{1 + 5 * p:.1f}" stroke-linecap="round"'
        dashes = "" if bit == taken else ' opacity=".45"'
        bend = (
            f"M{x:.0f} {y:.0f} C{x + 34:.0f} {y:.0f} {end_x - 34:.0f} {end_y} {end_x:.0f} {end_y}"
        )
        parts.append(f'<path d="{bend}" fill="none" {style}{dashes}/>')
        text_y = end_y + (20 if bit else -10)
        weight = 700 if bit == taken else 400
        parts.append(
            f'<text x="{end_x - 4:.0f}" y="{text_y}" text-anchor="middle" font-size="12" '
            f'font-weight="{weight}" fill="{colour if bit == taken else "var(--bt-muted)"}">'
            f"{bit} · {p:.0%}</text>"
        )
        if bit != taken:
            parts.append(_circle(end_x, end_y, "var(--bt-line)"))
    parts.append(_circle(x, y, "var(--bt-accent)"))
    return parts


def _circle(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" fill="{colour}"/>'
