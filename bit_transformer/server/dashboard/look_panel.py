"""Reads some data: a long sequence by windows, or a short one with its attention."""

from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from bit_transformer.server.dashboard.chart_options import DARK, LIGHT
from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.glass import heat
from bit_transformer.server.dashboard.pieces import button, card
from bit_transformer.server.dashboard.words import number

_MOST_LOOKED_AT = 128
_TELL = "p => `${p.data[4]} looks at ${p.data[5]}: ${(100 * p.data[3]).toFixed(1)} %`"
"""Colours are square roots of weights, so that faint ones can be seen; words tell the weights."""
_WINDOW_LINES = (
    ("K", "negentropy_logits"),
    ("C", "lz_complexity_logits"),
    ("S", "symbiosis_score"),
)


def _asking(desk: Desk, operation: str, paths: tuple[str, ...]) -> Form:
    """Fields of a question about some data, by text or by file."""
    form = desk.form(operation)
    form.field("run", choices=())
    form.field("text", lines=5)
    form.field("file", choices=())
    with ui.element("div").classes("bt-grid"):
        for path in paths:
            form.field(path)
    form.alert()
    desk.listeners.append(lambda now: form.offer("run", now.run_names()))
    desk.listeners.append(lambda now: form.offer("file", now.file_names()))
    desk.on_run.append(lambda name: form.set("run", name))
    return form


def draw_long(desk: Desk) -> None:
    """Telemetry along a sequence of any length."""

    async def ask() -> None:
        go.props("loading")
        found = await desk.submit("infer_long", form)
        go.props(remove="loading")
        if found is not None:
            shown.clear()
            with shown:
                _draw_windows(desk, found)

    with ui.element("div").classes("bt-split bt-wide-left"):
        with card("Sequence", "A text or an uploaded file, read window by window."):
            form = _asking(desk, "infer_long", ("ctx_bits", "overlap_bits"))
            go = button("Read", "play_arrow", ask, main=True)
        with card("Telemetry by window"):
            shown = ui.column().classes("w-full")
            with shown:
                ui.label("Nothing read yet.").classes("bt-soft")


def _draw_windows(desk: Desk, found: dict[str, Any]) -> None:
    right = "" if found["right"] is None else f", {found['right']:.1%} of the bits foreseen"
    ui.label(f"{found['bits']:,} bits in {len(found['windows'])} windows{right}.")
    colours = DARK if desk.dark else LIGHT
    picked = (colours.first, colours.second, colours.warning)
    series = [
        {
            "name": name,
            "type": "line",
            "data": [window["readings"][reading] for window in found["windows"]],
            "itemStyle": {"color": colour},
            "showSymbol": len(found["windows"]) < 40,
        }
        for (name, reading), colour in zip(_WINDOW_LINES, picked, strict=True)
    ]
    axis = {
        "axisLabel": {"color": colours.text},
        "splitLine": {"lineStyle": {"color": colours.grid}},
    }
    options = {
        "animation": False,
        "legend": {"textStyle": {"color": colours.text}, "top": 0},
        "grid": {"left": 40, "right": 12, "top": 32, "bottom": 28},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": list(range(1, len(found["windows"]) + 1)), **axis},
        "yAxis": {"type": "value", "min": 0, "max": 1, **axis},
        "series": series,
    }
    ui.echart(options).classes("bt-chart").props(
        'role=img aria-label="K, C and S of the predictions by window"'
    )


def draw_look(desk: Desk) -> Callable[[str], Awaitable[None]]:
    """Attention, and the surprisal of each bit; gives a function that looks at a text."""

    async def ask() -> None:
        go.props("loading")
        found = await desk.submit("look", form)
        go.props(remove="loading")
        if found is not None:
            shown.clear()
            with shown:
                LookedAt(desk, found, str(form.value("text") or ""))

    async def look_at(text: str) -> None:
        form.set("text", text.encode()[:_MOST_LOOKED_AT].decode(errors="ignore"))
        form.set("file", None)
        await ask()

    with ui.element("div").classes("bt-split bt-wide-left"):
        with card("Data", f"At most {_MOST_LOOKED_AT} bytes."):
            form = _asking(desk, "look", ("layer",))
            go = button("Look", "visibility", ask, main=True)
        shown = ui.column().classes("w-full").style("gap:16px")
        with shown, card("Inside"):
            ui.label("Nothing looked at yet.").classes("bt-soft")
    return look_at


class LookedAt:
    """The inside of one pass."""

    def __init__(self, desk: Desk, found: dict[str, Any], text: str) -> None:
        self._desk, self._found = desk, found
        self._labels = ["start", *_byte_names(text, found["bytes"])][: len(found["attention"][0])]
        with card(
            "Bits", "One row a byte position, eight bits each: the hotter, the more surprising."
        ):
            self._draw_bits()
        with card(
            "Attention", "Each row is a position and shows where it looks: the darker, the more."
        ):
            heads = {i: f"head {i + 1}" for i in range(len(found["attention"]))}
            with ui.row().classes("items-center"):
                ui.label(f"Layer {found['layer'] + 1}").classes("bt-soft")
                ui.toggle(heads, value=0, on_change=lambda e: self._draw_head(e.value)).props(
                    "no-caps dense unelevated"
                )
            self._place = ui.column().classes("w-full")
            self._draw_head(0)

    def _draw_bits(self) -> None:
        readings = self._found["readings"]
        with ui.row().style("gap:6px"):
            for name, reading in _WINDOW_LINES:
                ui.label(f"{name} {number(readings[reading], 2)}").classes("bt-chip")
        rows = self._found["bit_surprisals"]
        cells = "".join(
            f'<div class="bt-byte"><b>{_html(self._name(i))}</b>'
            + "".join(f'<i style="--h:{heat(bit * 4)}" title="{bit:.2f} bits"></i>' for bit in row)
            + f"<span>{sum(row):.1f}</span></div>"
            for i, row in enumerate(rows)
        )
        ui.html(f'<div class="bt-bytes">{cells}</div>', sanitize=False).classes("w-full")

    def _name(self, index: int) -> str:
        return self._labels[index + 1] if index + 1 < len(self._labels) else ""

    def _draw_head(self, head: int) -> None:
        self._place.clear()
        weights = self._found["attention"][head]
        colours = DARK if self._desk.dark else LIGHT
        data = [
            [x, y, round(weight**0.5, 3), weight, self._labels[y], self._labels[x]]
            for y, row in enumerate(weights)
            for x, weight in enumerate(row)
            if weight >= 0.002
        ]
        axis = {
            "type": "category",
            "data": self._labels,
            "axisLabel": {
                "color": colours.text,
                "fontFamily": "monospace",
                "fontSize": 10,
                "interval": len(self._labels) // 44,
            },
            "axisLine": {"lineStyle": {"color": colours.grid}},
            "splitArea": {"show": False},
        }
        options = {
            "animation": False,
            "grid": {"left": 44, "right": 8, "top": 28, "bottom": 8},
            "tooltip": {":formatter": _TELL},
            "xAxis": {**axis, "position": "top"},
            "yAxis": {**axis, "inverse": True},
            "visualMap": {
                "show": False,
                "dimension": 2,
                "min": 0,
                "max": max((point[2] for point in data), default=1.0),
                "inRange": {"color": [colours.surface, colours.first]},
            },
            "series": [{"type": "heatmap", "data": data}],
        }
        with self._place:
            ui.echart(options).style("height:min(560px,90vw);width:100%").props(
                f'role=img aria-label="Attention of head {head + 1}, a heat map"'
            )


def _byte_names(text: str, count: int) -> list[str]:
    names = {32: "\u2423", 10: "\u21b5", 9: "\u2192"}
    content = text.encode()[:count]
    if len(content) < count:
        return [str(i + 1) for i in range(count)]
    return [names.get(byte, chr(byte) if 32 < byte < 127 else f"{byte:02x}") for byte in content]


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
