"""Jobs under way, above everything else: progress, time left, cancel, and how they end."""

from typing import Any, Literal

from nicegui import ui

from bit_transformer.server.dashboard.desk import Desk, complain
from bit_transformer.server.dashboard.pieces import progress_words, share
from bit_transformer.server.dashboard.pulse import Snapshot
from bit_transformer.server.dashboard.words import label_of

_ENDS: dict[str, tuple[Literal["positive", "warning"], str]] = {
    "done": ("positive", "is done"),
    "cancelled": ("warning", "was cancelled"),
}


def draw_jobs(desk: Desk) -> None:
    """A line for each job that waits or runs."""
    strip = ui.column().classes("bt-main").style("padding-bottom:0")
    lines: dict[str, JobLine] = {}
    ends = Ends()

    def show(now: Snapshot) -> None:
        active = {job["id"] for job in now.active}
        for identity in lines.keys() - active:
            lines.pop(identity).remove()
        for job in ends.news(now):
            tell_end(job)
        for job in now.active:
            if job["id"] not in lines:
                with strip:
                    lines[job["id"]] = JobLine(desk, job)
            lines[job["id"]].show(job)
        strip.set_visibility(bool(lines))

    desk.listeners.append(show)


class Ends:
    """Which jobs have ended since a page looked first, those included that were over before it saw
    them begin."""

    def __init__(self) -> None:
        self._known: set[str] | None = None

    def news(self, now: Snapshot) -> list[dict[str, Any]]:
        """Jobs that have ended since the last call, oldest first."""
        if now.status is None:
            return []
        active = {job["id"] for job in now.active}
        over = [job for job in reversed(now.jobs) if job["id"] not in active]
        known = {job["id"] for job in over} if self._known is None else self._known
        self._known = known | {job["id"] for job in over}
        return [job for job in over if job["id"] not in known]


class JobLine:
    """One job under way."""

    def __init__(self, desk: Desk, job: dict[str, Any]) -> None:
        self._desk, self._id = desk, job["id"]
        with ui.row().classes("bt-card bt-job").props("role=status") as self._row:
            ui.icon("autorenew", color="primary").props("aria-hidden=true")
            self._name = ui.label(name_of(job)).classes("text-weight-medium")
            self._words = ui.label().classes("bt-soft")
            ui.space()
            self._cancel = ui.button("Cancel", icon="stop", on_click=self._end).props(
                f'flat dense no-caps color=negative aria-label="Cancel: {name_of(job)}"'
            )
            self._bar = ui.linear_progress(0, show_value=False, size="6px").props(
                f'instant-feedback rounded aria-label="{name_of(job)}"'
            )

    def show(self, job: dict[str, Any]) -> None:
        """Draw it as it is now."""
        self._words.set_text(progress_words(job))
        self._bar.set_value(share(job))
        self._cancel.set_enabled(not job["cancel_requested"])

    def remove(self) -> None:
        """It is over."""
        self._row.delete()

    async def _end(self) -> None:
        await self._desk.attempt(self._desk.backend.call("cancel_job", {"job": self._id}))


def name_of(job: dict[str, Any]) -> str:
    """What a job does."""
    what = label_of(job["operation"])
    return f"{what}: {job['run']}" if job["run"] else what


def tell_end(job: dict[str, Any]) -> None:
    """Say how a job has ended."""
    if job["state"] in _ENDS:
        kind, words = _ENDS[job["state"]]
        ui.notify(f"{name_of(job)} {words}", type=kind)
    else:
        complain(f"{name_of(job)} failed: {job['error']}")
