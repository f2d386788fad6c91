"""What is on disk of a job, and who may write it.

request.json     what was asked for; holds no secrets
state.json       how far it has come; only written while `lock` is held
metrics.jsonl    what it tells while it runs; lines are only ever added
log.txt          stdout and stderr of its process
cancel           there once somebody wants it to end
lock             held by the process of a job as long as it lives

A lock that the system drops with its holder says more surely who lives than a number that another
process may have been given since: a killed process, one that nobody has waited for included,
holds none.
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

from bit_transformer.checkpoint.atomic import atomic_write_json, remove_tree, storage_errors

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
    """Run that it alone may write to."""
    state: State
    created: float
    """Unix time, as all times here."""
    started: float | None = None
    ended: float | None = None
    makes: str | None = None
    """File that it alone may make."""
    pid: int | None = None
    """Of the process while it runs."""
    error: str | None = None
    result: dict[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ENDED


@dataclass(frozen=True)
class JobFolder:
    """The paths of one job."""

    path: Path

    @property
    def metrics(self) -> Path:
        """What it tells while it runs."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What its process printed."""
        return self.path / "log.txt"

    @property
    def cancel_marker(self) -> Path:
        """There once somebody wants it to end."""
        return self.path / "cancel"

    def create(self, state: JobState, request: dict[str, Any]) -> None:
        """Write down a new job; the state last, for a job without one is none."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True)
            self.metrics.touch()
        atomic_write_json(self.path / "request.json", request)
        self.write(state)

    def request(self) -> dict[str, Any]:
        """What was asked for."""
        content: dict[str, Any] = json.loads((self.path / "request.json").read_text("utf-8"))
        return content

    def state(self) -> JobState:
        """How far it has come; raises `OSError` or `ValueError` for what is no job."""
        return JobState(**json.loads((self.path / "state.json").read_text("utf-8")))

    def write(self, state: JobState) -> None:
        """Replace the state; whoever calls this made the job or holds its lock."""
        atomic_write_json(self.path / "state.json", dataclasses.asdict(state))

    @contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[bool]:
        """Hold the lock if it can be had within so many seconds; says whether it is held."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _acquire(descriptor, patience)
        finally:
            os.close(descriptor)

    def end_unless_alive(self, state: State, error: str | None) -> JobState:
        """Write an end to a job whose process is not there (any more); the state it is in then."""
        with self.locked() as held:
            now = self.state()
            if held and not now.over:
                now = dataclasses.replace(
                    now, state=state, error=error, ended=time.time(), pid=None
                )
                self.write(now)
            return now

    def remove(self) -> bool:
        """Delete a job that is over; False while its process is not quite gone."""
        if not self.path.is_dir():
            return True
        with self.locked() as held:
            if not held:
                return False
            # Without its state it is no job, however much of the rest a kill leaves behind.
            (self.path / "state.json").unlink(missing_ok=True)
            remove_tree(self.path)
            return True

    def log_tail(self) -> list[str]:
        """The last lines of the log."""
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
    """The jobs in a folder, oldest first; folders that a kill left half-made are passed over."""
    return [JobFolder(path.parent) for path in sorted(root.glob("*/state.json"))]
