"""The files of a job, and the lock that says whether its process is alive.

request.json     the request, without secrets
state.json       the state; written only while `lock` is held
metrics.jsonl    records that the job writes while it runs; append-only
log.txt          stdout and stderr of the process
cancel           exists once a cancellation was requested
lock             held by the process of the job as long as it lives

A lock is safer than a process id, because the system may give the id of a dead process to another
one. The system releases the lock when its holder dies, even if it is killed and still a zombie.
"""

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bit_transformer.atomic import atomic_write_json, remove_tree, storage_errors

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 20


@dataclass(frozen=True)
class JobState:
    """The content of state.json."""

    id: str
    operation: str
    writes: str | None
    """Run that only this job may write to."""
    state: State
    created: float
    """Unix time in seconds, like all times here."""
    started: float | None = None
    ended: float | None = None
    makes: str | None = None
    """File that only this job may make."""
    pid: int | None = None
    """Id of the process while it runs."""
    error: str | None = None
    result: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in ENDED


@dataclass(frozen=True)
class JobFolder:
    """The paths of one job."""

    path: Path

    @property
    def metrics(self) -> Path:
        """Records that the job writes while it runs."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """Output of the process."""
        return self.path / "log.txt"

    @property
    def cancel_marker(self) -> Path:
        """File that exists once a cancellation was requested."""
        return self.path / "cancel"

    def create(self, state: JobState, request: dict[str, Any]) -> None:
        """Write the files of a new job."""
        # The state comes last: a folder without one is not a job yet, see `find_jobs`.
        with storage_errors(self.path):
            self.path.mkdir(parents=True)
            self.metrics.touch()
        atomic_write_json(self.path / "request.json", request)
        self.write(state)

    def request(self) -> dict[str, Any]:
        """Return the request."""
        content: dict[str, Any] = json.loads((self.path / "request.json").read_text("utf-8"))
        return content

    def state(self) -> JobState:
        """Return the state; raises `OSError` or `ValueError` if the folder is not a job."""
        return JobState(**json.loads((self.path / "state.json").read_text("utf-8")))

    def write(self, state: JobState) -> None:
        """Replace the state. The caller has created the job or holds its lock."""
        atomic_write_json(self.path / "state.json", dataclasses.asdict(state))

    @contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[bool]:
        """Context whose value says whether it got the lock, within `patience` seconds."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _acquire(descriptor, patience)
        finally:
            os.close(descriptor)

    def end_unless_alive(self, state: State, error: str | None) -> JobState:
        """End a job unless its process is alive, and return the state of the job afterwards."""
        with self.locked() as held:
            now = self.state()
            if held and not now.over:
                now = dataclasses.replace(
                    now, state=state, error=error, ended=time.time(), pid=None
                )
                self.write(now)
            return now

    def remove(self) -> bool:
        """Delete a job that is over; return False if its process still holds the lock."""
        if not self.path.is_dir():
            return True
        with self.locked() as held:
            if not held:
                return False
            # The state goes first: if this process is killed here, what is left is not a job.
            (self.path / "state.json").unlink(missing_ok=True)
            remove_tree(self.path)
            return True

    def log_tail(self) -> list[str]:
        """Return the last lines of the log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return text.splitlines()[-_LOG_TAIL_LINES:]


def _acquire(descriptor: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def find_jobs(root: Path) -> list[JobFolder]:
    """Return the jobs in a folder, oldest first, without folders that a kill left half-made."""
    return [JobFolder(path.parent) for path in sorted(root.glob("*/state.json"))]
