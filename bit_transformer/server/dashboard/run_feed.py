"""Follows one run: first its past records, then new records while it trains."""

import asyncio
from typing import Any

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.history import History
from bit_transformer.server.dashboard.poller import Poller

_IDLE_SECONDS = 0.5
_RETRY_SECONDS = 2.0
_TRAINING_OPERATIONS = ("train", "step")


class RunFeed:
    """Fills the history of one run until its task is cancelled."""

    def __init__(self, backend: Backend, poller: Poller, run: str) -> None:
        self._backend, self._poller, self.run_name = backend, poller, run
        self.history = History()
        self.details: dict[str, Any] | None = None
        self.problem: str | None = None
        """Why the last request failed."""
        self.progress: dict[str, Any] | None = None
        """The newest record that tells the progress of a job."""
        self._read: dict[str, int] = {}
        """Number of the last record read, by job."""
        self._finished: set[str] = set()
        """Jobs whose records are all read."""
        self._read_of_run = 0
        """Number of the last record read of the run itself."""

    async def run(self) -> None:
        """Follow the run; try again for as long as the server does not answer."""
        has_past = False
        while True:
            try:
                if not has_past:
                    await self._read_past()
                    has_past = True
                await self._read_jobs()
                await self._read_external_training()
                self.problem = None
            except BitTransformerError as error:
                self.problem = str(error)
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(_IDLE_SECONDS)

    async def _read_past(self) -> None:
        self.details = await self._backend.call("get_run", {"run": self.run_name})
        found = await self._backend.call("metrics", {"run": self.run_name})
        for record in found["records"]:
            self.history.add(record)

    async def _read_jobs(self) -> None:
        """Read all records of the jobs that train this run, oldest job first."""
        for job in reversed(self._poller.snapshot.jobs):
            trains = job["run"] == self.run_name and job["operation"] in _TRAINING_OPERATIONS
            if trains and job["id"] not in self._finished and job["state"] != "queued":
                async for number, record in self._backend.follow(
                    job["id"], self._read.get(job["id"], 0)
                ):
                    self._read[job["id"]] = number
                    self._add(record)
                self._finished.add(job["id"])
                self.progress = None
                await self._read_details()

    async def _read_external_training(self) -> None:
        """Read the records of a training process that is not a job, until it ends."""
        runs = self._poller.snapshot.runs
        run = next((run for run in runs if run["name"] == self.run_name), None)
        if run is None or run["writer"] is None:
            return
        async for number, record in self._backend.follow_run(self.run_name, self._read_of_run):
            self._read_of_run = number
            self._add(record)
        await self._read_details()

    async def _read_details(self) -> None:
        self.details = await self._backend.call("get_run", {"run": self.run_name})
        self.history.version += 1

    def _add(self, record: dict[str, Any]) -> None:
        if record.get("kind") == "restart":
            self.history = History(version=self.history.version + 1)
        self.history.add(record)
        if "done" in record:
            self.progress = record
