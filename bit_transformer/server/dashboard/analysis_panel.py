"""Analyses given data: metrics along a long sequence, or attention and surprisal of a short one."""

import html
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from bit_transformer.bits.codec import patch_text
from bit_transformer.server.dashboard.byte_display import heat, symbol_of
from bit_transformer.server.dashboard.chart_options import DARK, LIGHT, METRICS
from bit_transformer.server.dashboard.components import button, card
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.formatting import number
from bit_transformer.server.dashboard.page_context import PageContext

_MAX_BYTES = 128
"""Longest data whose attention can be shown."""
_TOOLTIP = "p => `${p.data[4]} attends to ${p.data[5]}: ${(100 * p.data[3]).toFixed(1)} %`"
"""Colours show square roots of the weights, so that small ones are visible; this shows weights."""


def _draw_form(page: PageContext, operation: str, paths: tuple[str, ...]) -> Form:
    """Draw a form that takes its data as text or as a file."""
    form = page.form(operation)
    form.field("run", choices=())
    form.field("text", lines=5)
    form.field("file", choices=())
    with ui.element("div").classes("bt-grid"):
        for path in paths:
            form.field(path)
    form.error_area()
    page.on_snapshot.append(lambda now: form.set_options("run", now.run_names()))
    page.on_snapshot.append(lambda now: form.set_options("file", now.file_names()))
    page.on_run.append(lambda name: form.set("run", name))
    return form


def draw_long_sequence(page: PageContext) -> None:
    """Draw the metrics along a sequence of any length."""

    async def analyse() -> None:
        await _submit(page, "infer_long", form, start, result, _draw_windows)

    with ui.element("div").classes("bt-split bt-wide-left"):
        with card("Sequence", "A text or an uploaded file. The model reads it window by window."):
            form = _draw_form(page, "infer_long", ("ctx_bits", "overlap_bits"))
            start = button("Analyse", "play_arrow", analyse, main=True)
        with card("Metrics by window"):
            result = ui.column().classes("w-full")
            with result:
                ui.label("Nothing is analysed yet.").classes("bt-muted")


async def _submit(
    page: PageContext,
    operation: str,
    form: Form,
    start: ui.button,
    result: ui.column,
    draw: Callable[[PageContext, dict[str, Any]], None],
) -> None:
    """Submit the form and draw the response in place of the last one. The button shows progress."""
    start.props("loading")
    found = await page.submit(operation, form)
    start.props(remove="loading")
    if found is not None:
        result.clear()
        with result:
            draw(page, found)


def _draw_windows(page: PageContext, found: dict[str, Any]) -> None:
    right = "" if found["right"] is None else f", {found['right']:.1%} of the bits predicted right"
    ui.label(f"{found['bits']:,} bits in {len(found['windows'])} windows{right}.")
    colours = DARK if page.dark else LIGHT
    line_colours = (colours.first, colours.second, colours.warning)
    series = [
        {
            "name": name,
            "type": "line",
            "data": [window["readings"][metric] for window in found["windows"]],
            "itemStyle": {"color": colour},
            "showSymbol": len(found["windows"]) < 40,
        }
        for (name, metric, _), colour in zip(METRICS, line_colours, strict=True)
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


def draw_attention(page: PageContext) -> Callable[[str], Awaitable[None]]:
    """Draw the attention and the surprisal of each bit of short data.

    Returns a function that shows them for a text.
    """

    async def look() -> None:
        def draw(page: PageContext, found: dict[str, Any]) -> None:
            AttentionView(page, found, str(form.value("text") or ""))

        await _submit(page, "look", form, start, result, draw)

    async def look_at(text: str) -> None:
        form.set("text", text.encode()[:_MAX_BYTES].decode(errors="ignore"))
        form.set("file", None)
        await look()

    with ui.element("div").classes("bt-split bt-wide-left"):
        with card("Data", f"A text or an uploaded file of at most {_MAX_BYTES} bytes."):
            form = _draw_form(page, "look", ("layer",))
            start = button("Look inside", "visibility", look, main=True)
        result = ui.column().classes("w-full").style("gap:16px")
        with result, card("Inside the model"):
            ui.label("Nothing is shown yet.").classes("bt-muted")
    return look_at


class AttentionView:
    """Surprisal of each bit and attention of each head, for one forward pass."""

    def __init__(self, page: PageContext, found: dict[str, Any], text: str) -> None:
        self._page, self._found = page, found
        # The first position is the start of the sequence, before any byte.
        labels = ["start", *_byte_labels(text, found["bytes"])]
        self._labels = labels[: len(found["attention"][0])]
        with card(
            "Surprisal of each bit",
            "A stronger colour means a more surprising bit. The number is the sum over the byte.",
        ):
            self._draw_bits()
        with card(
            "Attention",
            "Each row shows what one position attends to. A stronger colour means a larger weight.",
        ):
            heads = {i: f"head {i + 1}" for i in range(len(found["attention"]))}
            with ui.row().classes("items-center"):
                ui.label(f"Layer {found['layer'] + 1}").classes("bt-muted")
                ui.toggle(heads, value=0, on_change=lambda e: self._draw_head(e.value)).props(
                    "no-caps dense unelevated"
                )
            self._heatmap = ui.column().classes("w-full")
            self._draw_head(0)

    def _draw_bits(self) -> None:
        with ui.row().style("gap:6px"):
            for name, metric, _ in METRICS:
                ui.label(f"{name} {number(self._found['readings'][metric], 2)}").classes("bt-chip")
        rows = self._found["bit_surprisals"]
        # heat() is scaled for bytes: 8 bits give the strongest colour. A bit gets it at 2 bits.
        cells = "".join(
            f'<div class="bt-byte"><b>{html.escape(self._label(i))}</b>'
            + "".join(f'<i style="--h:{heat(bit * 4)}" title="{bit:.2f} bits"></i>' for bit in row)
            + f"<span>{sum(row):.1f}</span></div>"
            for i, row in enumerate(rows)
        )
        ui.html(f'<div class="bt-bytes">{cells}</div>', sanitize=False).classes("w-full")

    def _label(self, index: int) -> str:
        return self._labels[index + 1] if index + 1 < len(self._labels) else ""

    def _draw_head(self, head: int) -> None:
        self._heatmap.clear()
        weights = self._found["attention"][head]
        colours = DARK if self._page.dark else LIGHT
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
            "tooltip": {":formatter": _TOOLTIP},
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
        with self._heatmap:
            ui.echart(options).style("height:min(560px,90vw);width:100%").props(
                f'role=img aria-label="Attention of head {head + 1}, a heat map"'
            )


def _byte_labels(text: str, count: int) -> list[str]:
    """Return a label for each byte: its symbol, or its position if the data is not the text."""
    content = text.encode()[:count]
    if len(content) < count:
        return [str(i + 1) for i in range(count)]
    return [symbol_of(patch_text(byte, 8)) for byte in content]
