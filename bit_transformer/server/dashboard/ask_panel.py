"""Tab "Ask": continue a prompt, analyse a long sequence, look inside the model."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.analysis_panel import draw_attention, draw_long_sequence
from bit_transformer.server.dashboard.byte_inspector import ByteInspector
from bit_transformer.server.dashboard.components import button, card, collapsed
from bit_transformer.server.dashboard.formatting import duration
from bit_transformer.server.dashboard.page_context import PageContext

_DRAW_SECONDS = 0.25
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "valid_utf8")


def draw_asking(page: PageContext) -> None:
    """Draw the tab, with a tab of its own for each task."""
    with ui.tabs().props('dense no-caps align=left aria-label="Tasks"') as tabs:
        ui.tab("generate", "Continue a prompt")
        ui.tab("long", "Analyse a long sequence")
        ui.tab("look", "Look inside")
    with ui.tab_panels(tabs, value="generate", animated=False, keep_alive=True).classes(
        "w-full bg-transparent"
    ):
        with ui.tab_panel("generate").classes("q-pa-none"):
            generation = Generation(page)
        with ui.tab_panel("long").classes("q-pa-none"):
            draw_long_sequence(page)
        with ui.tab_panel("look").classes("q-pa-none"):
            show_attention = draw_attention(page)

    async def look_inside(text: str) -> None:
        tabs.set_value("look")
        await show_attention(text)

    generation.look_inside = look_inside


class Generation:
    """Continues a prompt and shows the result, byte by byte or after the safety gate."""

    look_inside: Callable[[str], Awaitable[None]]
    """Shows the attention over a text."""

    def __init__(self, page: PageContext) -> None:
        self._page, self._stopping = page, False
        # The request of `infer` has all fields of `generate`, and those of the gate.
        self._form = page.form("infer")
        with ui.element("div").classes("bt-split bt-wide-left"):
            with card("Prompt"):
                self._draw_form()
            with card("Generated text"):
                self._draw_result()
        page.on_snapshot.append(lambda now: self._form.set_options("run", now.run_names()))
        page.on_run.append(lambda name: self._form.set("run", name))

    def _draw_form(self) -> None:
        form = self._form
        form.field("run", choices=())
        form.field("prompt", lines=5)
        with ui.element("div").classes("bt-grid"):
            form.field("new_bytes")
            form.field("sampling.temperature")
            form.field("seed")
        with collapsed("Sampling"):
            for name in _SAMPLING:
                form.field(f"sampling.{name}")
        with collapsed("Context mixer"):
            form.field("mix")
            form.field("given", lines=3)
        form.field("gate")
        form.field("queue")
        form.error_area()
        with ui.row().classes("bt-actions"):
            self._generate_button = button("Generate", "play_arrow", self._generate, main=True)
            self._stop_button = button("Stop", "stop", self._stop)
        self._stop_button.set_visibility(False)

    def _draw_result(self) -> None:
        self._bar = ui.linear_progress(0, show_value=False, size="6px").props(
            'instant-feedback rounded aria-label="Generated so far"'
        )
        self._status = ui.label("No text yet.").classes("bt-muted").props("role=status")
        self._bar.set_visibility(False)
        self._gated_text = ui.label().classes("bt-mono").mark("answer")
        self._inspector = ByteInspector()
        self._look_button = button("Look inside this text", "visibility", self._look_inside)
        self._look_button.set_visibility(False)

    def _stop(self) -> None:
        self._stopping = True

    async def _look_inside(self) -> None:
        await self.look_inside(self._form.value("prompt") + self._inspector.text)

    async def _generate(self) -> None:
        fields = self._form.validated()
        if fields is None:
            return
        gated = fields.get("gate", False)
        self._begin(fields, gated=gated)
        try:
            await (self._generate_gated(fields) if gated else self._generate_inspected(fields))
        except BitTransformerError as error:
            self._form.show_error(str(error))
            self._status.set_text("The generation failed.")
        finally:
            self._generate_button.set_enabled(True)
            self._stop_button.set_visibility(False)
            self._bar.set_visibility(False)
            self._page.poller.poll_now()

    def _begin(self, fields: dict[str, Any], *, gated: bool) -> None:
        self._stopping = False
        self._form.show_error(None)
        self._gated_text.set_text("")
        self._inspector.begin("" if gated else fields.get("prompt", ""))
        self._generate_button.set_enabled(False)
        self._stop_button.set_visibility(not gated)
        self._look_button.set_visibility(False)
        self._bar.set_value(0)
        self._bar.props(
            add="indeterminate" if gated else "", remove="" if gated else "indeterminate"
        )
        self._bar.set_visibility(True)
        self._status.set_text("Waiting for the model.")

    async def _generate_gated(self, fields: dict[str, Any]) -> None:
        found = await self._page.backend.call("infer", fields)
        self._gated_text.set_text(fields.get("prompt", "") + found["text"])
        text = f"{found['new_bytes']} bytes in {duration(found['seconds'])}. "
        if found["passed"]:
            text += "The safety gate passed all of them."
        else:
            text += f"The safety gate held back the rest: {'; '.join(found['reasons'])}."
            if found["queued"]:
                text += ' It is listed in the tab "Review".'
        self._status.set_text(text)

    async def _generate_inspected(self, fields: dict[str, Any]) -> None:
        request = {name: value for name, value in fields.items() if name not in ("gate", "queue")}
        start, last_drawn, batch, total = time.monotonic(), 0.0, [], 0.0
        figures = "static"
        async for patch in self._page.backend.stream("generate", {**request, "alternatives": 6}):
            batch.append(patch)
            total += patch["surprisal"]
            figures = patch["figures"]
            if time.monotonic() - last_drawn >= _DRAW_SECONDS:
                last_drawn = time.monotonic()
                self._show_progress(patch, last_drawn - start)
                self._inspector.add(batch)
                batch = []
                # Lets NiceGUI send the new elements while the stream goes on.
                await asyncio.sleep(0)
            if self._stopping:
                break
        self._inspector.add(batch)
        self._inspector.end()
        count = len(self._inspector)
        self._look_button.set_visibility(count > 0)
        seconds = duration(time.monotonic() - start)
        mean = f", {total / count:.2f} bits of surprisal each, {figures}" if count else ""
        self._status.set_text(f"{count} bytes in {seconds}{mean}. Select a byte to see its bits.")

    def _show_progress(self, patch: dict[str, Any], seconds: float) -> None:
        done = patch["done"] / patch["total"]
        self._bar.set_value(done)
        left = duration(seconds / done - seconds)
        self._status.set_text(f"{done:.0%}, {left} left")
