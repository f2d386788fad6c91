"""Follows one run: what was written of it, then what its jobs tell while they work."""

import asyncio
from typing import Any

from bit_transformer.errors import BitTransformerError, RefusedError
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.history import History
from bit_transformer.server.dashboard.pulse import Pulse

_EVERY = 0.5
_AGAIN = 2.0
_TRAININGS = ("train", "step")


class RunFeed:
    """Fills the history of one run until it is cancelled."""

    def __init__(self, backend: Backend, pulse: Pulse, run: str) -> None:
        self._backend, self._pulse, self.run_name = backend, pulse, run
        self.history = History()
        self.details: dict[str, Any] | None = None
        self.problem: str | None = None
        self.progress: dict[str, Any] | None = None
        """The newest record of a job that says how far it is."""
        self._places: dict[str, int] = {}
        """Lines read of each job."""
        self._over: set[str] = set()
        self._lines = 0
        """Lines read of the run's own records."""

    async def run(self) -> None:
        """Follow; a server that is away for a while is waited for."""
        known = False
        while True:
            try:
                if not known:
                    await self._read_past()
                    known = True
                await self._read_jobs()
                await self._read_others()
                self.problem = None
            except RefusedError as error:
                self.problem = str(error)
                await asyncio.sleep(_AGAIN)
            except BitTransformerError as error:
                self.problem = str(error)
                await asyncio.sleep(_AGAIN)
            await asyncio.sleep(_EVERY)

    async def _read_past(self) -> None:
        self.details = await self._backend.call("get_run", {"run": self.run_name})
        found = await self._backend.call("metrics", {"run": self.run_name})
        for record in found["records"]:
            self.history.add(record)

    async def _read_jobs(self) -> None:
        """All that the jobs of this run tell, oldest first, until none is left that has more."""
        for job in reversed(self._pulse.snapshot.jobs):
            ours = job["run"] == self.run_name and job["operation"] in _TRAININGS
            if ours and job["id"] not in self._over and job["state"] != "queued":
                async for number, record in self._backend.follow(
                    job["id"], self._places.get(job["id"], 0)
                ):
                    self._places[job["id"]] = number
                    self._take(record)
                self._over.add(job["id"])
                self.progress = None
                await self._read_details()

    async def _read_others(self) -> None:
        """What a training that is no job of the server writes, until it has ended."""
        lines = (line for line in self._pulse.snapshot.runs if line["name"] == self.run_name)
        line = next(lines, None)
        if line is None or line["writer"] is None:
            return
        async for number, record in self._backend.follow_run(self.run_name, self._lines):
            self._lines = number
            self._take(record)
        await self._read_details()

    async def _read_details(self) -> None:
        self.details = await self._backend.call("get_run", {"run": self.run_name})
        self.history.version += 1

    def _take(self, record: dict[str, Any]) -> None:
        if record.get("kind") == "restart":
            self.history = History(version=self.history.version + 1)
        self.history.add(record)
        if "done" in record:
            self.progress = record
