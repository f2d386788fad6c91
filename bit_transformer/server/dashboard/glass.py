"""The glass box in pictures: a byte's way down the bit tree, as SVG. Pure."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

_STEP, _TOP, _SWING, _MIDDLE = 74, 30, 26, 74
_HOT = 8.0
"""Bits of surprisal from which on a byte is as hot as can be shown."""


def heat(surprisal: float) -> float:
    """How strongly a byte is coloured, in [0, 0.75]."""
    return round(0.75 * min(max(surprisal, 0.0) / _HOT, 1.0), 3)


def shown(patch: Mapping[str, Any]) -> str:
    """A patch as it stands in a text."""
    text = str(patch["shown"])
    if text == "\n":
        return "\u21b5\n"
    return "\u2192\t" if text == "\t" else text


def spoken(patch: Mapping[str, Any]) -> str:
    """A patch in words."""
    names = {" ": "space", "\n": "new line", "\t": "tab", "": f"bits {patch['bits']}"}
    text = str(patch["shown"])
    return f"{names.get(text, text)}, {patch['surprisal']:.2f} bits"


def text_of(patches: Sequence[Mapping[str, Any]]) -> str:
    """The bytes that the bits of patches are, as text; what is no UTF-8 is shown as U+FFFD."""
    # A patch of nine bits is a byte and its parity.
    bits = "".join(p["bits"][:8] if len(p["bits"]) == 9 else p["bits"] for p in patches)
    content = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) // 8 * 8, 8))
    return content.decode(errors="replace")


def tree(patch: Mapping[str, Any]) -> str:
    """The bit tree along a patch: at each bit both branches with their probabilities, the one that
    was taken drawn through."""
    bits, ones = str(patch["bits"]), patch["p_ones"]
    width = _STEP * len(bits) + 40
    parts, x, y = [], 16.0, float(_MIDDLE)
    for i, (bit, p_one) in enumerate(zip(bits, ones, strict=True)):
        taken = int(bit)
        parts += _branches(i, x, y, taken, p_one)
        x, y = x + _STEP, _MIDDLE + (_SWING if taken else -_SWING)
    parts.append(_circle(x, y, "var(--bt-accent)"))
    words = html.escape(", ".join(_said(b, p) for b, p in zip(bits, ones, strict=True)))
    return (
        f'<svg viewBox="0 0 {width} {2 * _MIDDLE}" width="{width}" role="img" '
        f'aria-label="Bit tree: {words}" style="max-width:100%;min-width:560px;height:auto">'
        f"{''.join(parts)}</svg>"
    )


def _said(bit: str, p_one: float) -> str:
    return f"bit {bit} with {p_one if bit == '1' else 1 - p_one:.0%}"


def _branches(i: int, x: float, y: float, taken: int, p_one: float) -> list[str]:
    parts = []
    # The branch that was taken is drawn last, over the other.
    for bit in (1 - taken, taken):
        p = p_one if bit else 1 - p_one
        end_x, end_y = x + _STEP, _MIDDLE + (_SWING if bit else -_SWING)
        colour = "var(--bt-accent)" if bit == taken else "var(--bt-soft)"
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
            f'font-weight="{weight}" fill="{colour if bit == taken else "var(--bt-soft)"}">'
            f"{bit} · {p:.0%}</text>"
        )
        if bit != taken:
            parts.append(_circle(end_x, end_y, "var(--bt-line)"))
    parts.append(_circle(x, y, "var(--bt-accent)"))
    return parts


def _circle(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" fill="{colour}"/>'
