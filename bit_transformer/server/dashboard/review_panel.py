"""The review queue: what the gate held back, to be approved or rejected, once."""

from typing import Any

from nicegui import background_tasks, ui

from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.pieces import button, card, chip, empty
from bit_transformer.server.dashboard.pulse import Snapshot
from bit_transformer.server.dashboard.words import number, size

_STATES = {"pending": "Waiting", "approved": "Approved", "rejected": "Rejected"}
_TONES = {"pending": "warn", "approved": "good", "rejected": "bad"}


def draw_review(desk: Desk) -> None:
    """A list by state, and beside it one item."""
    with ui.element("div").classes("bt-split"):
        with card("Review queue", "Output that the safety gate held back."):
            states = ui.toggle(_STATES, value="pending").props("no-caps dense unelevated spread")
            states.classes("w-full")
            entries = ui.column().classes("bt-scroll")
        place = ui.column().classes("w-full")
    panel = ReviewPanel(desk, states, entries, place)
    states.on_value_change(panel.fetch)
    desk.listeners.append(panel.show)


class ReviewPanel:
    """Keeps list and item up to date."""

    def __init__(self, desk: Desk, states: ui.toggle, entries: ui.column, place: ui.column) -> None:
        self._desk, self._states, self._entries, self._place = desk, states, entries, place
        self._held: int | None = None
        self._drawn: Any = None
        self._client = ui.context.client
        self._invite()

    def show(self, now: Snapshot) -> None:
        """Fetch the list once something was held back or decided."""
        if now.status is not None and now.held != self._held:
            self._held = now.held
            background_tasks.create(self.fetch(), context=self._client)

    async def fetch(self) -> None:
        """Draw the list of the state that is chosen."""
        asked = self._desk.backend.call("list_review", {"state": self._states.value})
        found = await self._desk.attempt(asked)
        # What is drawn again for no reason loses the click that is on its way to it.
        if found is None or found == self._drawn:
            return
        self._drawn = found
        self._entries.clear()
        with self._entries:
            if not found["items"]:
                empty("task_alt", f"Nothing {_STATES[found['state']].lower()}.")
            for item in found["items"]:
                self._line(item)

    def _line(self, item: dict[str, Any]) -> None:
        with ui.element("button").classes("bt-run").props("type=button") as line:
            ui.label(item["item"]).classes("bt-run-name")
            ui.label(f"{size(item['bytes'])}: {'; '.join(item['reasons'])}").classes("bt-help")
        line.on("click", lambda: self._look_at(item["item"]))

    async def _look_at(self, identity: str) -> None:
        asked = self._desk.backend.call("show_review", {"item": identity})
        self._draw(await self._desk.attempt(asked))

    def _invite(self) -> None:
        with self._place, card():
            empty("rule", "Choose an item to see what was held back, and why.")

    def _draw(self, item: dict[str, Any] | None) -> None:
        if item is None:
            return
        self._place.clear()
        with self._place, card():
            with ui.row().classes("items-center"):
                with ui.element("h2").classes("bt-title"):
                    ui.label(item["item"])
                chip(item["state"], _TONES[item["state"]])
            for reason in item["reasons"]:
                ui.label(reason).classes("bt-alert")
            _draw_texts(item)
            if item["state"] == "pending":
                with ui.row().classes("bt-actions"):
                    button("Approve", "check", lambda: self._decide("approve", item), main=True)
                    button("Reject", "block", lambda: self._decide("reject", item))

    async def _decide(self, decision: str, item: dict[str, Any]) -> None:
        asked = self._desk.backend.call(decision, {"item": item["item"]})
        self._draw(await self._desk.attempt(asked))
        await self.fetch()


def _draw_texts(item: dict[str, Any]) -> None:
    with ui.row().style("gap:6px"):
        for name, value in item["telemetry"].items():
            if isinstance(value, int | float):
                chip(f"{name} {number(float(value), 2)}")
    ui.label("Prompt").classes("bt-help")
    ui.label(item["prompt"] or "(empty)").classes("bt-mono")
    ui.label("Held back").classes("bt-help")
    ui.label(item["output"] if item["output"] is not None else "(rejected: not shown)").classes(
        "bt-mono"
    )
