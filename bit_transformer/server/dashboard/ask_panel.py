"""Questions to a model: continue a prompt in a glass box or under the gate, read a long sequence,
look inside."""

import asyncio
import time
from typing import Any

from nicegui import ui

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.glass_box import GlassBox
from bit_transformer.server.dashboard.look_panel import draw_long, draw_look
from bit_transformer.server.dashboard.pieces import button, card, folded
from bit_transformer.server.dashboard.pulse import Snapshot
from bit_transformer.server.dashboard.words import duration

_EVERY = 0.25
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "valid_utf8")


def draw_asking(desk: Desk) -> None:
    """A tab for each kind of question."""
    with ui.tabs().props('dense no-caps align=left aria-label="Kinds of questions"') as tabs:
        ui.tab("generate", "Continue a prompt")
        ui.tab("long", "Read a long sequence")
        ui.tab("look", "Look inside")
    with ui.tab_panels(tabs, value="generate", animated=False, keep_alive=True).classes(
        "w-full bg-transparent"
    ):
        with ui.tab_panel("generate").classes("q-pa-none"):
            look = Generation(desk)
        with ui.tab_panel("long").classes("q-pa-none"):
            draw_long(desk)
        with ui.tab_panel("look").classes("q-pa-none"):
            look_at = draw_look(desk)

    async def look_inside(text: str) -> None:
        tabs.set_value("look")
        await look_at(text)

    look.look_inside = look_inside


def offer_runs(desk: Desk, form: Form) -> None:
    """Keep a form's runs up to date, and its run the one that is looked at."""

    def show(now: Snapshot) -> None:
        form.offer("run", now.run_names())

    desk.listeners.append(show)
    desk.on_run.append(lambda name: form.set("run", name))


class Generation:
    """Continues a prompt, seen from outside and from inside."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._stopping = desk, False
        self.look_inside: Any = None
        # The request of `infer` has the fields of a watched generation, and those of the gate.
        self._form = desk.form("infer")
        with ui.element("div").classes("bt-split bt-wide-left"):
            with card("Prompt"):
                self._draw_form()
            with card("What the model makes of it"):
                self._draw_answer()
        offer_runs(desk, self._form)

    def _draw_form(self) -> None:
        form = self._form
        form.field("run", choices=())
        form.field("prompt", lines=5)
        with ui.element("div").classes("bt-grid"):
            form.field("new_bytes")
            form.field("sampling.temperature")
            form.field("seed")
        with folded("Sampling"):
            for name in _SAMPLING:
                form.field(f"sampling.{name}")
        form.field("gate")
        form.field("queue")
        form.alert()
        with ui.row().classes("bt-actions"):
            self._go = button("Generate", "play_arrow", self._generate, main=True)
            self._stop = button("Stop", "stop", self._end)
        self._stop.set_visibility(False)

    def _draw_answer(self) -> None:
        self._bar = ui.linear_progress(0, show_value=False, size="6px").props(
            'instant-feedback rounded aria-label="Generated so far"'
        )
        self._words = ui.label("Nothing generated yet.").classes("bt-soft").props("role=status")
        self._bar.set_visibility(False)
        self._plain = ui.label().classes("bt-mono").mark("answer")
        self._glass = GlassBox()
        self._look = button("Look inside this text", "visibility", self._look_inside)
        self._look.set_visibility(False)

    def _end(self) -> None:
        self._stopping = True

    async def _look_inside(self) -> None:
        await self.look_inside(self._form.value("prompt") + self._glass.text)

    async def _generate(self) -> None:
        fields = self._form.checked()
        if fields is None:
            return
        gated = fields.get("gate", False)
        self._begin(fields, gated=gated)
        try:
            await (self._guarded(fields) if gated else self._watched(fields))
        except BitTransformerError as error:
            self._form.say(str(error))
            self._words.set_text("It did not come to its end.")
        finally:
            self._go.set_enabled(True)
            self._stop.set_visibility(False)
            self._bar.set_visibility(False)
            self._desk.pulse.hurry()

    def _begin(self, fields: dict[str, Any], *, gated: bool) -> None:
        self._stopping = False
        self._form.say(None)
        self._plain.set_text("")
        self._glass.begin("" if gated else fields.get("prompt", ""))
        self._go.set_enabled(False)
        self._stop.set_visibility(not gated)
        self._look.set_visibility(False)
        self._bar.set_value(0)
        self._bar.props(
            add="indeterminate" if gated else "", remove="" if gated else "indeterminate"
        )
        self._bar.set_visibility(True)
        self._words.set_text("The model is asked.")

    async def _guarded(self, fields: dict[str, Any]) -> None:
        found = await self._desk.backend.call("infer", fields)
        self._plain.set_text(fields.get("prompt", "") + found["text"])
        words = f"{found['new_bytes']} bytes in {duration(found['seconds'])}; "
        if found["passed"]:
            words += "the gate let all of it pass."
        else:
            words += f"the gate held back the rest: {'; '.join(found['reasons'])}."
            if found["queued"]:
                words += " It waits under Review."
        self._words.set_text(words)

    async def _watched(self, fields: dict[str, Any]) -> None:
        asked = {name: value for name, value in fields.items() if name not in ("gate", "queue")}
        began, shown, batch, total = time.monotonic(), 0.0, [], 0.0
        async for patch in self._desk.backend.stream("generate", {**asked, "alternatives": 6}):
            batch.append(patch)
            total += patch["surprisal"]
            if time.monotonic() - shown >= _EVERY:
                shown = time.monotonic()
                self._progress(patch, shown - began)
                self._glass.add(batch)
                batch = []
                await asyncio.sleep(0)
            if self._stopping:
                break
        self._glass.add(batch)
        self._glass.end()
        count = len(self._glass)
        self._look.set_visibility(count > 0)
        took = duration(time.monotonic() - began)
        mean = f", {total / count:.2f} bits each" if count else ""
        self._words.set_text(f"{count} bytes in {took}{mean}. Choose a byte to see its bits.")

    def _progress(self, patch: dict[str, Any], seconds: float) -> None:
        done = patch["done"] / patch["total"]
        self._bar.set_value(done)
        left = duration(seconds / done - seconds)
        self._words.set_text(f"{done:.0%}, {left} left")
