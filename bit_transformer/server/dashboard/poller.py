"""Polls the management server once a second, for all open pages together."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from nicegui import Client

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.backend import Backend

_SECONDS = 1.0
_POLLS_PER_LIST = 2
"""Runs, files and reviews change less often than jobs and are polled less often."""
_MAX_JOBS = 60


@dataclass(frozen=True)
class Snapshot:
    """State of the management server at one moment."""

    problem: str | None = None
    """Why the last poll failed; the other fields are then those of the last successful poll."""
    status: dict[str, Any] | None = None
    """None before the first successful poll."""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    """Newest first."""
    runs: list[dict[str, Any]] = field(default_factory=list)
    """Newest first."""
    files: list[dict[str, Any]] = field(default_factory=list)
    pending_reviews: int = 0

    @property
    def features(self) -> dict[str, bool]:
        """Whether each feature that needs an optional library is available."""
        return {} if self.status is None else dict(self.status["features"])

    @property
    def active(self) -> list[dict[str, Any]]:
        """Jobs that are queued or running, oldest first."""
        return [job for job in reversed(self.jobs) if job["state"] in ("queued", "running")]

    def run_names(self) -> list[str]:
        """Names of the runs, newest first."""
        return [run["name"] for run in self.runs]

    def file_names(self) -> list[str]:
        """Names of the files, sorted."""
        return [file["name"] for file in self.files]


class Poller:
    """Keeps the newest snapshot while at least one page is open."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.snapshot = Snapshot()
        self._requested = asyncio.Event()

    def poll_now(self) -> None:
        """Poll again at once, for example after a change on the server."""
        self._requested.set()

    async def run(self) -> None:
        """Poll until cancelled, at half the rate while the server does not answer."""
        polls = 0
        while True:
            requested = self._requested.is_set()
            self._requested.clear()
            if _has_open_page():
                await self._poll(lists=requested or polls % _POLLS_PER_LIST == 0)
                polls += 1
            wait = _SECONDS * (2 if self.snapshot.problem else 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._requested.wait(), wait)

    async def _poll(self, *, lists: bool) -> None:
        last = self.snapshot
        try:
            found: dict[str, Any] = {
                "status": await self._backend.call("status"),
                "jobs": (await self._backend.call("list_jobs", {"limit": _MAX_JOBS}))["jobs"],
            }
            if lists or last.problem or last.status is None:
                found |= await self._lists()
        except BitTransformerError as error:
            self.snapshot = Snapshot(**{**vars(last), "problem": str(error)})
        else:
            self.snapshot = Snapshot(**{**vars(last), **found, "problem": None})

    async def _lists(self) -> dict[str, Any]:
        runs, files, reviews = await asyncio.gather(
            self._backend.call("list_runs"),
            self._backend.call("list_files"),
            self._backend.call("list_review"),
        )
        return {
            "runs": runs["runs"][::-1],
            "files": files["files"],
            "pending_reviews": len(reviews["items"]),
        }


def _has_open_page() -> bool:
    return any(client.has_socket_connection for client in Client.instances.values())
