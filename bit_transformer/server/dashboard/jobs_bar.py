"""Active jobs, above every tab: progress, time left, cancelling, and a notice when one ends."""

from typing import Any, Literal

from nicegui import ui

from bit_transformer.server.dashboard.components import done_fraction, progress_text
from bit_transformer.server.dashboard.formatting import label_of
from bit_transformer.server.dashboard.page_context import PageContext, show_error
from bit_transformer.server.dashboard.poller import Snapshot

_NOTICES: dict[str, tuple[Literal["positive", "warning"], str]] = {
    "done": ("positive", "is done"),
    "cancelled": ("warning", "was cancelled"),
}


def draw_jobs(page: PageContext) -> None:
    """Draw a row for each job that is queued or running."""
    bar = ui.column().classes("bt-main").style("padding-bottom:0")
    rows: dict[str, JobRow] = {}
    finished = FinishedJobs()

    def show(now: Snapshot) -> None:
        active = {job["id"] for job in now.active}
        for identity in rows.keys() - active:
            rows.pop(identity).remove()
        for job in finished.newly_finished(now):
            notify_finished(job)
        for job in now.active:
            if job["id"] not in rows:
                with bar:
                    rows[job["id"]] = JobRow(page, job)
            rows[job["id"]].show(job)
        bar.set_visibility(bool(rows))

    page.on_snapshot.append(show)


class FinishedJobs:
    """Finds the jobs that have finished since the page was opened.

    Jobs that were too short to be seen running are included.
    """

    def __init__(self) -> None:
        self._known: set[str] | None = None

    def newly_finished(self, now: Snapshot) -> list[dict[str, Any]]:
        """Return the jobs that have finished since the last call, oldest first."""
        if now.status is None:
            return []
        active = {job["id"] for job in now.active}
        finished = [job for job in reversed(now.jobs) if job["id"] not in active]
        identities = {job["id"] for job in finished}
        known = identities if self._known is None else self._known
        self._known = known | identities
        return [job for job in finished if job["id"] not in known]


class JobRow:
    """Row of one active job."""

    def __init__(self, page: PageContext, job: dict[str, Any]) -> None:
        self._page, self._id = page, job["id"]
        with ui.row().classes("bt-card bt-job").props("role=status") as self._row:
            ui.icon("autorenew", color="primary").props("aria-hidden=true")
            ui.label(title_of(job)).classes("text-weight-medium")
            self._progress = ui.label().classes("bt-muted")
            ui.space()
            self._cancel = ui.button("Cancel", icon="stop", on_click=self._cancel_job).props(
                f'flat dense no-caps color=negative aria-label="Cancel: {title_of(job)}"'
            )
            self._bar = ui.linear_progress(0, show_value=False, size="6px").props(
                f'instant-feedback rounded aria-label="{title_of(job)}"'
            )

    def show(self, job: dict[str, Any]) -> None:
        """Show the current state of the job."""
        self._progress.set_text(progress_text(job))
        self._bar.set_value(done_fraction(job))
        self._cancel.set_enabled(not job["cancel_requested"])

    def remove(self) -> None:
        """Remove the row."""
        self._row.delete()

    async def _cancel_job(self) -> None:
        await self._page.attempt(self._page.backend.call("cancel_job", {"job": self._id}))


def title_of(job: dict[str, Any]) -> str:
    """Return the operation of a job, with its run if it has one."""
    operation = label_of(job["operation"])
    return f"{operation}: {job['run']}" if job["run"] else operation


def notify_finished(job: dict[str, Any]) -> None:
    """Show how a job has ended."""
    if job["state"] in _NOTICES:
        kind, outcome = _NOTICES[job["state"]]
        ui.notify(f"{title_of(job)} {outcome}", type=kind)
    else:
        show_error(f"{title_of(job)} failed: {job['error']}")
