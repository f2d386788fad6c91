"""Tab "Runs": the list of runs, and the selected run."""

from typing import Any

from nicegui import ui

from bit_transformer.server.dashboard.components import button, card, empty
from bit_transformer.server.dashboard.formatting import number
from bit_transformer.server.dashboard.page_context import PageContext
from bit_transformer.server.dashboard.poller import Snapshot
from bit_transformer.server.dashboard.run_view import RunView

_STATES = {
    "starting": "starting",
    "training": "training",
    "interrupted": "interrupted",
    "ended": "done",
    "untrained": "not trained yet",
}


def draw_runs(page: PageContext) -> None:
    """Draw the tab."""
    with ui.element("div").classes("bt-split"):
        with card("Runs") as runs:
            entries = ui.column().classes("bt-scroll")
        detail = ui.column().classes("w-full")
    panel = RunsPanel(page, entries, detail)
    with runs:
        button("New run", "add", lambda: page.show_tab("new"))
    page.on_snapshot.append(panel.show)
    page.on_run.append(panel.select)


class RunsPanel:
    """Keeps the list and the view of the selected run up to date."""

    def __init__(self, page: PageContext, entries: ui.column, detail: ui.column) -> None:
        self._page, self._entries, self._detail = page, entries, detail
        self._rows: dict[str, RunRow] = {}
        self._view: RunView | None = None
        self._selected: str | None = None

    def show(self, now: Snapshot) -> None:
        """Update the list. If no run is selected, select an active one or else the newest."""
        if now.status is None:
            return
        if list(self._rows) != now.run_names() or not now.runs:
            self._draw_list(now)
        for run in now.runs:
            self._rows[run["name"]].show(run, selected=run["name"] == self._selected)
        if self._selected is None and now.runs:
            names = now.run_names()
            active = next((job["run"] for job in now.active if job["run"] in names), None)
            stored = self._page.preferences.run
            self._page.select_run(stored if stored in names else active or names[0])

    def select(self, name: str) -> None:
        """Show another run."""
        if name == self._selected:
            return
        if self._view is not None:
            self._view.close()
        self._selected = name
        self._detail.clear()
        with self._detail:
            self._view = RunView(self._page, name)
        for row in self._rows.values():
            row.mark(row.name == name)

    def _draw_list(self, now: Snapshot) -> None:
        self._entries.clear()
        self._rows = {}
        with self._entries:
            for run in now.runs:
                self._rows[run["name"]] = RunRow(self._page, run["name"])
            if not now.runs:
                empty("hourglass_empty", "There are no runs yet.")
        if not now.runs and self._selected is None:
            self._detail.clear()
            with self._detail, card():
                empty("rocket_launch", "Train your first model. It takes about two minutes.")
                with ui.row().classes("w-full justify-center"):
                    button("New run", "add", lambda: self._page.show_tab("new"), main=True)


class RunRow:
    """Row of one run in the list."""

    def __init__(self, page: PageContext, name: str) -> None:
        self.name = name
        with ui.element("button").classes("bt-run").props("type=button") as self._row:
            ui.label(name).classes("bt-run-name")
            self._summary = ui.label().classes("bt-help")
            with ui.element("div").classes("bt-bar"):
                self._bar = ui.element("div")
        self._row.on("click", lambda: page.select_run(name))

    def show(self, run: dict[str, Any], *, selected: bool) -> None:
        """Show the current state of the run."""
        self._summary.set_text(_summary_of(run))
        done = run["step"] / run["steps"] if run["steps"] else float(run["ended"])
        self._bar.style(f"width:{min(done, 1):.1%}")
        self.mark(selected)

    def mark(self, selected: bool) -> None:
        """Mark the row as selected or not."""
        self._row.props(f"aria-pressed={'true' if selected else 'false'}")


def _summary_of(run: dict[str, Any]) -> str:
    if run["problem"]:
        return str(run["problem"])
    state = _STATES[run["state"]]
    quality = f", {number(run['bits_per_byte'])} bits per byte" if run["bits_per_byte"] else ""
    steps = f"step {run['step']} of {run['steps']}" if run["steps"] else f"step {run['step']}"
    return f"{state}, {steps}{quality}"
