"""Runs one job in a process of its own: `python -m bit_transformer.server.worker RUNS JOB`."""

import dataclasses
import io
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.jobs.folder import JobFolder, JobState, State
from bit_transformer.server.jobs.log import JobLog
from bit_transformer.server.jobs.work import Stopped, Work
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.workspace import Workspace

_PATIENCE = 5.0
"""Seconds to wait for the lock. The server holds it for moments when it checks on the job."""
_NICE = 10
"""Jobs run at low priority, so that the server stays responsive."""


class _Redacted(io.TextIOBase):
    """A text stream that replaces secrets, because a library may print them."""

    def __init__(self, stream: Any, secrets: Iterable[str]) -> None:
        self._stream, self._secrets = stream, [secret for secret in secrets if secret]

    def write(self, text: str) -> int:
        self._stream.write(self.without_secrets(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def main(root: Path, path: Path) -> int:
    """Run the job in folder `path`, unless it is over or already running; return the exit code."""
    job, secrets = JobFolder(path), json.loads(sys.stdin.buffer.read() or b"{}")
    output: Any = _Redacted(sys.stderr, secrets.values())
    with redirect_stdout(output), redirect_stderr(output), job.locked(_PATIENCE) as held:
        state = job.state()
        if not held or state.state != "queued":
            return 0
        with closing(JobLog(job.metrics)) as log:
            work = Work(Workspace(root), log, secrets)
            work.listen()
            state = dataclasses.replace(
                state, state="running", started=time.time(), pid=os.getpid()
            )
            job.write(state)
            if job.cancel_marker.exists():
                work.stop.set()
            os.nice(_NICE)
            ended = _do(job, work, state)
        error = None if ended.error is None else output.without_secrets(ended.error)
        job.write(dataclasses.replace(ended, error=error, ended=time.time(), pid=None))
    return 0 if ended.state != "failed" else 1


def _do(job: JobFolder, work: Work, state: JobState) -> JobState:
    operation = OPERATIONS[state.operation]
    try:
        result = operation.run(work, operation.stored_request(job.request()))
    except Stopped:
        return dataclasses.replace(state, state="cancelled")
    except BitTransformerError as error:
        traceback.print_exc()
        return dataclasses.replace(state, state="failed", error=str(error))
    except Exception as error:
        # The state must say that the job failed. The traceback goes to its log.
        traceback.print_exc()
        what = f"internal error, {type(error).__name__}: {error}"
        return dataclasses.replace(state, state="failed", error=what)
    name: State = "cancelled" if work.stop.is_set() else "done"
    return dataclasses.replace(state, state=name, result=result.model_dump(mode="json"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
