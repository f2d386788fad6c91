"""Jobs: list, show, cancel."""

from typing import Annotated

from pydantic import Field

from bit_transformer.server.jobs.folder import JobState, State
from bit_transformer.server.jobs.log import last_progress
from bit_transformer.server.jobs.queue import JobQueue
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.schemas import Job, JobIdentity, Jobs, Progress, Request


class JobsRequest(Request):
    """Which jobs to list."""

    state: State | None = None
    """Only jobs in this state."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """At most this many jobs, the newest ones."""


class JobRequest(Request):
    """One job."""

    job: JobIdentity
    """Identity of a job."""


@direct("GET", "/jobs", lane="control")
def list_jobs(engine: Engine, request: JobsRequest) -> Jobs:
    """List waiting, running and finished jobs, newest first."""
    states = [
        state
        for state in engine.jobs.states()
        if request.state is None or state.state == request.state
    ]
    shown = states[: request.limit]
    return Jobs(jobs=[job_document(engine.jobs, state) for state in shown], total=len(states))


@direct("GET", "/jobs/{job}", lane="control")
def get_job(engine: Engine, request: JobRequest) -> Job:
    """Show one job: its state, progress and time left, result or error."""
    return job_document(engine.jobs, engine.jobs.state(request.job))


@direct("POST", "/jobs/{job}/cancel", lane="control")
def cancel_job(engine: Engine, request: JobRequest) -> Job:
    """Cancel a job. A waiting job ends at once. A training finishes its step, saves and evaluates.

    If a training that has saved is cancelled again, it ends without the evaluation. A job that is
    over does not change.
    """
    return job_document(engine.jobs, engine.jobs.cancel(request.job))


def job_document(jobs: JobQueue, state: JobState) -> Job:
    """Return the description of a job."""
    folder = jobs.job(state.id)
    record = None if state.state == "queued" else last_progress(folder.metrics)
    progress = None
    if record is not None:
        fields = {name: record.get(name) for name in ("total", "seconds_left")}
        if state.over:
            fields["seconds_left"] = None
        progress = Progress(done=record["done"], unit=record.get("unit", ""), **fields)
    ahead = None
    if state.state == "queued":
        waiting = [other for other in jobs.states() if other.state == "queued"]
        ahead = sum(other.id < state.id for other in waiting)
    return Job(
        id=state.id,
        operation=state.operation,
        state=state.state,
        run=state.writes,
        created=state.created,
        started=state.started,
        ended=state.ended,
        cancel_requested=folder.cancel_marker.exists(),
        ahead=ahead,
        progress=progress,
        error=state.error,
        log=folder.log_tail() if state.state == "failed" else [],
        result=state.result,
    )


OPERATIONS = (list_jobs, get_job, cancel_job)
