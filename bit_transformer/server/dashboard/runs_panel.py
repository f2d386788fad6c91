"""The runs there are, and the one that is looked at."""

from typing import Any

from nicegui import ui

from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.pieces import button, card, empty
from bit_transformer.server.dashboard.pulse import Snapshot
from bit_transformer.server.dashboard.run_view import RunView
from bit_transformer.server.dashboard.words import number

_STATES = {
    "starting": "starting",
    "training": "training",
    "interrupted": "interrupted",
    "ended": "done",
    "untrained": "not trained yet",
}


def draw_runs(desk: Desk) -> None:
    """A list of runs, and beside it one of them."""
    with ui.element("div").classes("bt-split"):
        with card("Runs") as listed:
            entries = ui.column().classes("bt-scroll")
        place = ui.column().classes("w-full")
    panel = RunsPanel(desk, entries, place)
    with listed:
        button("New run", "add", lambda: desk.show_tab("new"))
    desk.listeners.append(panel.show)
    desk.on_run.append(panel.look_at)


class RunsPanel:
    """Keeps list and view up to date."""

    def __init__(self, desk: Desk, entries: ui.column, place: ui.column) -> None:
        self._desk, self._entries, self._place = desk, entries, place
        self._lines: dict[str, RunLine] = {}
        self._view: RunView | None = None
        self._viewed: str | None = None

    def show(self, now: Snapshot) -> None:
        """Draw the list as it is now; with nothing chosen look at what is under way, or newest."""
        if now.status is None:
            return
        if list(self._lines) != now.run_names() or not now.runs:
            self._draw_list(now)
        for run in now.runs:
            self._lines[run["name"]].show(run, chosen=run["name"] == self._viewed)
        if self._viewed is None and now.runs:
            names = now.run_names()
            under_way = next((job["run"] for job in now.active if job["run"] in names), None)
            kept = self._desk.settings.run
            self._desk.choose_run(kept if kept in names else under_way or names[0])

    def look_at(self, name: str) -> None:
        """Show another run."""
        if name == self._viewed:
            return
        if self._view is not None:
            self._view.close()
        self._viewed = name
        self._place.clear()
        with self._place:
            self._view = RunView(self._desk, name)
        for line in self._lines.values():
            line.mark(line.name == name)

    def _draw_list(self, now: Snapshot) -> None:
        self._entries.clear()
        self._lines = {}
        with self._entries:
            for run in now.runs:
                self._lines[run["name"]] = RunLine(self._desk, run["name"])
            if not now.runs:
                empty("hourglass_empty", "There are no runs yet.")
        if not now.runs and self._viewed is None:
            self._place.clear()
            with self._place, card():
                empty("rocket_launch", "Train a first model: it takes about two minutes.")
                with ui.row().classes("w-full justify-center"):
                    button("New run", "add", lambda: self._desk.show_tab("new"), main=True)


class RunLine:
    """One run in the list."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.name = name
        with ui.element("button").classes("bt-run").props("type=button") as self._line:
            ui.label(name).classes("bt-run-name")
            self._words = ui.label().classes("bt-help")
            with ui.element("div").classes("bt-bar"):
                self._bar = ui.element("div")
        self._line.on("click", lambda: desk.choose_run(name))

    def show(self, run: dict[str, Any], *, chosen: bool) -> None:
        """Draw it as it is now."""
        self._words.set_text(_words(run))
        done = run["step"] / run["steps"] if run["steps"] else float(run["ended"])
        self._bar.style(f"width:{min(done, 1):.1%}")
        self.mark(chosen)

    def mark(self, chosen: bool) -> None:
        """Whether it is the one that is looked at."""
        self._line.props(f"aria-pressed={'true' if chosen else 'false'}")


def _words(run: dict[str, Any]) -> str:
    if run["problem"]:
        return str(run["problem"])
    state = _STATES[run["state"]]
    quality = f", {number(run['bits_per_byte'])} bits per byte" if run["bits_per_byte"] else ""
    steps = f"step {run['step']} of {run['steps']}" if run["steps"] else f"step {run['step']}"
    return f"{state}, {steps}{quality}"
