"""Tab "Review": output that the safety gate held back. A reviewer approves or rejects it, once."""

from typing import Any

from nicegui import background_tasks, ui

from bit_transformer.server.dashboard.components import button, card, chip, empty
from bit_transformer.server.dashboard.formatting import number, size
from bit_transformer.server.dashboard.page_context import PageContext
from bit_transformer.server.dashboard.poller import Snapshot

_STATES = {"pending": "Waiting", "approved": "Approved", "rejected": "Rejected"}
_TONES = {"pending": "warn", "approved": "good", "rejected": "bad"}


def draw_review(page: PageContext) -> None:
    """Draw the tab: a list of items by state, and the selected item."""
    with ui.element("div").classes("bt-split"):
        with card("Review queue", "Generated output that the safety gate held back."):
            states = ui.toggle(_STATES, value="pending").props("no-caps dense unelevated spread")
            states.classes("w-full")
            entries = ui.column().classes("bt-scroll")
        detail = ui.column().classes("w-full")
    panel = ReviewPanel(page, states, entries, detail)
    states.on_value_change(panel.fetch)
    page.on_snapshot.append(panel.show)


class ReviewPanel:
    """Keeps the list and the selected item up to date."""

    def __init__(
        self, page: PageContext, states: ui.toggle, entries: ui.column, detail: ui.column
    ) -> None:
        self._page, self._states, self._entries, self._detail = page, states, entries, detail
        self._pending: int | None = None
        self._drawn: Any = None
        self._client = ui.context.client
        with self._detail, card():
            empty("rule", "Select an item to see what was held back, and why.")

    def show(self, now: Snapshot) -> None:
        """Fetch the list again if the number of waiting items has changed."""
        if now.status is not None and now.pending_reviews != self._pending:
            self._pending = now.pending_reviews
            background_tasks.create(self.fetch(), context=self._client)

    async def fetch(self) -> None:
        """Fetch and draw the items of the selected state."""
        call = self._page.backend.call("list_review", {"state": self._states.value})
        found = await self._page.attempt(call)
        # Redrawing an unchanged list would lose a click that is on its way to it.
        if found is None or found == self._drawn:
            return
        self._drawn = found
        self._entries.clear()
        with self._entries:
            if not found["items"]:
                empty("task_alt", f"No output is {found['state']}.")
            for item in found["items"]:
                self._draw_entry(item)

    def _draw_entry(self, item: dict[str, Any]) -> None:
        with ui.element("button").classes("bt-run").props("type=button") as entry:
            ui.label(item["item"]).classes("bt-run-name")
            ui.label(f"{size(item['bytes'])}: {'; '.join(item['reasons'])}").classes("bt-help")
        entry.on("click", lambda: self._select(item["item"]))

    async def _select(self, identity: str) -> None:
        call = self._page.backend.call("show_review", {"item": identity})
        self._draw_item(await self._page.attempt(call))

    def _draw_item(self, item: dict[str, Any] | None) -> None:
        if item is None:
            return
        self._detail.clear()
        with self._detail, card():
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
        call = self._page.backend.call(decision, {"item": item["item"]})
        self._draw_item(await self._page.attempt(call))
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
