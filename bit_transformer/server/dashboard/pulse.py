"""What the server is doing, asked once a second for all pages together."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

from nicegui import Client

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.backend import Backend

_EVERY = 1.0
_SLOWER = 2
"""Lists are asked for in every second round only."""
_MOST_JOBS = 60


@dataclass(frozen=True)
class Snapshot:
    """The server at one moment."""

    problem: str | None = None
    """Why nothing is known of it now; the rest is then what was known last."""
    status: dict[str, Any] | None = None
    jobs: list[dict[str, Any]] = field(default_factory=list)
    """Newest first."""
    runs: list[dict[str, Any]] = field(default_factory=list)
    """Newest first."""
    files: list[dict[str, Any]] = field(default_factory=list)
    held: int = 0
    """Items that wait for a review."""

    @property
    def features(self) -> dict[str, bool]:
        """What optional libraries allow."""
        return {} if self.status is None else dict(self.status["features"])

    @property
    def active(self) -> list[dict[str, Any]]:
        """Jobs that are not over, oldest first."""
        return [job for job in reversed(self.jobs) if job["state"] in ("queued", "running")]

    def run_names(self) -> list[str]:
        """Newest first."""
        return [run["name"] for run in self.runs]

    def file_names(self) -> list[str]:
        """By name."""
        return [file["name"] for file in self.files]


class Pulse:
    """Keeps the newest snapshot while anybody looks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.snapshot = Snapshot()
        self._soon = asyncio.Event()

    def hurry(self) -> None:
        """Ask again now: somebody has changed something."""
        self._soon.set()

    async def run(self) -> None:
        """Ask until cancelled; more patiently while nobody answers."""
        rounds = 0
        while True:
            hurried = self._soon.is_set()
            self._soon.clear()
            if _somebody_looks():
                await self._ask(lists=hurried or rounds % _SLOWER == 0)
                rounds += 1
            wait = _EVERY * (2 if self.snapshot.problem else 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._soon.wait(), wait)

    async def _ask(self, *, lists: bool) -> None:
        last = self.snapshot
        try:
            found: dict[str, Any] = {
                "status": await self._backend.call("status"),
                "jobs": (await self._backend.call("list_jobs", {"limit": _MOST_JOBS}))["jobs"],
            }
            if lists or last.problem or last.status is None:
                found |= await self._lists()
        except BitTransformerError as error:
            self.snapshot = Snapshot(**{**vars(last), "problem": str(error)})
        else:
            self.snapshot = Snapshot(**{**vars(last), **found, "problem": None})

    async def _lists(self) -> dict[str, Any]:
        runs, files, held = await asyncio.gather(
            self._backend.call("list_runs"),
            self._backend.call("list_files"),
            self._backend.call("list_review"),
        )
        return {
            "runs": runs["runs"][::-1],
            "files": files["files"],
            "held": len(held["items"]),
        }


def _somebody_looks() -> bool:
    return any(client.has_socket_connection for client in Client.instances.values())
