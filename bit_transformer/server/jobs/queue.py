"""Starts and cancels jobs, and finds them again after a restart. The work is done by the jobs."""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from bit_transformer.atomic import storage_errors
from bit_transformer.errors import BusyError, ConflictError, QueueFullError, UnknownNameError
from bit_transformer.server.jobs.folder import JobFolder, JobState, find_jobs
from bit_transformer.server.settings import TOKEN_VARIABLE, Limits
from bit_transformer.server.workspace import Workspace

Child = subprocess.Popen[bytes]
Launch = Callable[[Workspace, JobFolder, Mapping[str, str]], Child]
_POLL_SECONDS = 0.2
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]

_log = logging.getLogger(__name__)


def launch_worker(workspace: Workspace, job: JobFolder, secret: Mapping[str, str]) -> Child:
    """Start the process of a job.

    It leads its own session, so that a signal to the server's process group does not end it.
    Secrets go through a pipe, because files and environments can be read by others.
    """
    command = [sys.executable, "-m", "bit_transformer.server.worker"]
    paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment.pop(TOKEN_VARIABLE, None)
    with job.log.open("ab") as log:
        child = subprocess.Popen(
            [*command, str(workspace.root), str(job.path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=job.path,
            env=environment,
            start_new_session=True,
        )
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
        pipe.write(json.dumps(dict(secret)).encode())
    return child


class JobQueue:
    """The jobs of one workspace. Only one server may have the workspace open."""

    def __init__(
        self, workspace: Workspace, limits: Limits, launch: Launch = launch_worker
    ) -> None:
        self._workspace, self._limits, self._launch = workspace, limits, launch
        self._jobs: dict[str, JobFolder] = {}
        self._ended: dict[str, JobState] = {}
        self._children: dict[str, Child] = {}
        self._secrets: dict[str, Mapping[str, str]] = {}
        self._guard = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock_file: IO[str] | None = None

    def open(self) -> None:
        """Find the existing jobs and start the thread that watches them.

        Raises `ConflictError` while another server has the folder open.
        """
        self._lock_file = self._lock_folder()
        self._jobs = {job.path.name: job for job in find_jobs(self._workspace.jobs)}
        self._closing.clear()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop watching. Running jobs go on."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._lock_file is not None:
            self._lock_file.close()

    def submit(
        self,
        operation: str,
        request: dict[str, Any],
        *,
        writes: str | None,
        makes: str | None = None,
        secret: Mapping[str, str],
    ) -> JobState:
        """Put a job in the queue.

        Raises `BusyError` while another job has the run or the file, and `QueueFullError`.
        """
        with self._guard:
            unfinished = self._unfinished()
            if writes is not None:
                self.require_free(writes)
            if makes is not None:
                self.require_unclaimed(makes)
            waiting = sum(state.state == "queued" for state in unfinished)
            if waiting >= self._limits.queued:
                raise QueueFullError(
                    f"at most {self._limits.queued} jobs may wait (--queued), and {waiting} do; "
                    "try again later, or cancel one"
                )
            now = datetime.now(UTC)
            identity = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
            created = now.timestamp()
            state = JobState(identity, operation, writes, "queued", created, makes=makes)
            job = JobFolder(self._workspace.jobs / identity)
            job.create(state, request)
            self._jobs[identity], self._secrets[identity] = job, secret
            return state

    def job(self, identity: str) -> JobFolder:
        """Return the folder of a job; raises `UnknownNameError`."""
        with self._guard:
            if identity not in self._jobs:
                raise UnknownNameError(f"there is no job {identity!r}; GET /jobs lists them")
            return self._jobs[identity]

    def state(self, identity: str) -> JobState:
        """Return the state of a job; raises `UnknownNameError`."""
        job = self.job(identity)
        # The state of a job that is over never changes, so it is read from disk once.
        if identity in self._ended:
            return self._ended[identity]
        state = job.state()
        if state.over:
            self._ended[identity] = state
        return state

    def states(self) -> list[JobState]:
        """Return the states of all jobs, newest first."""
        with self._guard:
            return [self.state(identity) for identity in sorted(self._jobs, reverse=True)]

    def owner(self, run: str) -> JobState | None:
        """Return the job that may write to a run, or None."""
        with self._guard:
            same = self._workspace.are_same
            return next((one for one in self._unfinished() if same(one.writes, run)), None)

    def require_free(self, run: str) -> None:
        """Raise `BusyError` while a job may write to a run."""
        owner = self.owner(run)
        if owner is not None:
            raise BusyError(
                f"the run {run!r} belongs to job {owner.id} ({owner.operation}, {owner.state}) "
                "until it is over; wait for it or cancel it",
                owner=owner.id,
            )

    def require_unclaimed(self, file: str) -> None:
        """Raise `BusyError` while a job is making a file of that name."""
        with self._guard:
            same = self._workspace.are_same
            owner = next((one for one in self._unfinished() if same(one.makes, file)), None)
        if owner is not None:
            raise BusyError(
                f"job {owner.id} ({owner.operation}, {owner.state}) is making the file {file!r}; "
                "wait for it, cancel it, or choose another name",
                owner=owner.id,
            )

    def cancel(self, identity: str) -> JobState:
        """Cancel a waiting job at once; ask a running one to finish its step, save and end."""
        with self._guard:
            job = self.job(identity)
            if self.state(identity).over:
                return self.state(identity)
            with storage_errors(job.path):
                job.cancel_marker.touch()
            state = job.end_unless_alive("cancelled", None)
            if state.state == "running":
                self._signal(job, signal.SIGTERM)
            else:
                self._secrets.pop(identity, None)
            return self.state(identity)

    def save(self, identity: str) -> None:
        """Ask a running job to save its current state."""
        with self._guard:
            self._signal(self.job(identity), signal.SIGUSR1)

    def _signal(self, job: JobFolder, number: signal.Signals) -> None:
        # If the lock is free, the process is dead, and its id may belong to another one.
        with job.locked() as is_dead:
            pid = job.state().pid
            if not is_dead and pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _unfinished(self) -> list[JobState]:
        open_jobs = [identity for identity in self._jobs if identity not in self._ended]
        states = [self.state(identity) for identity in sorted(open_jobs)]
        return [state for state in states if not state.over]

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.poll()
            except Exception:
                # For example a full disk. The next round tries again.
                _log.exception("updating the jobs failed")
            self._closing.wait(_POLL_SECONDS)

    def poll(self) -> None:
        """Record jobs that have ended, start waiting ones, and remove the oldest ones."""
        with self._guard:
            running = 0
            for state in self._unfinished():
                child = self._children.get(state.id)
                # `poll` of a child also reaps it, so that no zombie stays.
                if child is not None and child.poll() is None:
                    running += 1
                elif child is not None or state.state == "running":
                    running += not self._settle(state.id).over
            waiting = [
                state
                for state in self._unfinished()
                if state.state == "queued" and state.id not in self._children
            ]
            for state in waiting[: max(0, self._limits.running - running)]:
                self._begin(state)
            for identity in [one for one in self._children if one in self._ended]:
                if self._children[identity].poll() is not None:
                    del self._children[identity]
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        """Remove the oldest jobs that are over, beyond the number that is kept."""
        over = sorted(self._jobs.keys() & self._ended.keys() - self._children.keys())
        for identity in over[: max(0, len(over) - self._limits.jobs_kept)]:
            if self._jobs[identity].remove():
                del self._jobs[identity], self._ended[identity]

    def _begin(self, state: JobState) -> None:
        job = self._jobs[state.id]
        try:
            child = self._launch(self._workspace, job, self._secrets.pop(state.id, {}))
        except OSError as error:
            job.end_unless_alive("failed", f"its process could not be started: {error}")
        else:
            self._children[state.id] = child

    def _settle(self, identity: str) -> JobState:
        """Mark a job as failed if its process is gone, and return its state."""
        child = self._children.pop(identity, None)
        how = "its process is gone"
        if child is not None and child.returncode < 0:
            how = f"its process was ended by {signal.Signals(-child.returncode).name}"
        elif child is not None:
            how = f"its process ended with exit code {child.returncode}"
        return self._jobs[identity].end_unless_alive("failed", f"{how} before the job was done")

    def _lock_folder(self) -> IO[str]:
        path = self._workspace.jobs.parent / "lock"
        with storage_errors(path):
            file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise ConflictError(
                f"another server has {self._workspace.root} open; stop it, or choose another "
                "folder with --runs"
            ) from error
        return file
