"""The type `Operation`: a typed function with a name, a REST address and a kind.

direct   `(engine, request) -> response`, computed in the server
stream   `(engine, request) -> iterator of responses`, computed in the server
job      `(work, request) -> result`, computed in a process of its own; the answer is the job

A direct operation runs in a lane. Each lane has its own threads, so that a request for the state of
a job never waits behind requests that compute.

at_once  runs in the event loop, because it takes no time and touches no file
control  reads and cancels jobs
work     reads and writes files, prepares jobs
compute  runs a model; the number of requests is limited, and further ones are refused at once

The `prepare` function of a job checks the request first, so that errors which are known beforehand
refuse the request instead of failing the job.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from anyio import CapacityLimiter
from pydantic import BaseModel

from bit_transformer.errors import UnknownNameError
from bit_transformer.server.jobs.queue import JobQueue
from bit_transformer.server.models import ModelStore
from bit_transformer.server.schemas import Job
from bit_transformer.server.settings import Limits
from bit_transformer.server.workspace import Workspace
from bit_transformer.training.run_folder import RunFolder

Method = Literal["GET", "POST", "DELETE"]
Kind = Literal["direct", "stream", "job"]
Lane = Literal["at_once", "control", "work", "compute"]
_CONTROL_THREADS = 8
_WORK_THREADS = 32


def _make_lanes() -> dict[Lane, CapacityLimiter]:
    return {
        "control": CapacityLimiter(_CONTROL_THREADS),
        "work": CapacityLimiter(_WORK_THREADS),
        # `ModelStore.request_slot` limits these, and refuses requests instead of queueing them.
        "compute": CapacityLimiter(math.inf),
    }


@dataclass(frozen=True)
class Engine:
    """Everything that direct operations use."""

    workspace: Workspace
    limits: Limits
    models: ModelStore
    jobs: JobQueue
    started: float
    """Unix time at which the server started, in seconds."""
    lanes: dict[Lane, CapacityLimiter] = field(default_factory=_make_lanes)
    """Number of threads of each lane."""

    def run(self, name: str) -> RunFolder:
        """Return an existing run; raises `BusyError` before its job made it, `UnknownNameError`."""
        try:
            return self.workspace.run(name)
        except UnknownNameError:
            self.jobs.require_free(name)
            raise

    def run_or_newest(self, name: str | None) -> RunFolder:
        """Return the run of that name, or the newest one for None; raises as `run` does."""
        return self.workspace.newest_run() if name is None else self.run(name)


@dataclass(frozen=True)
class Prepared:
    """A checked request that becomes a job."""

    request: BaseModel
    writes: str | None = None
    """Run that only this job may write to."""
    makes: str | None = None
    """File that only this job may make."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """Values that are removed from the request and kept only in memory."""


Prepare = Callable[[Engine, Any], Prepared]


@dataclass(frozen=True)
class Operation:
    """One operation, for every interface."""

    name: str
    method: Method
    path: str
    kind: Kind
    run: Callable[..., Any]
    request: type[BaseModel]
    response: type[BaseModel]
    """Type of the response, of each part of a stream, or of the result of a job."""
    lane: Lane = "work"
    """Lane of a direct operation. Jobs are submitted in `work`."""
    prepare: Prepare | None = None
    stored: type[BaseModel] | None = None
    """Type that the request of a job is stored as, if `prepare` changes it."""

    @property
    def description(self) -> str:
        """Docstring of the function."""
        return inspect.cleandoc(self.run.__doc__ or "")

    @property
    def answer(self) -> type[BaseModel]:
        """Type that a client receives: the job of a job operation, else the response."""
        return Job if self.kind == "job" else self.response

    @property
    def path_fields(self) -> list[str]:
        """Fields of the request that are part of the path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def reads_only(self) -> bool:
        """Whether the operation changes nothing."""
        return self.method == "GET"

    def stored_request(self, content: dict[str, Any]) -> BaseModel:
        """Return the stored request of a job from its JSON content."""
        return (self.stored or self.request).model_validate(content)


def direct(
    method: Method, path: str, *, lane: Lane = "work"
) -> Callable[[Callable[..., Any]], Operation]:
    """Decorator that makes an operation from `(engine, request) -> response`."""
    return lambda function: replace(_operation(function, method, path, "direct"), lane=lane)


def stream(path: str) -> Callable[[Callable[..., Any]], Operation]:
    """Decorator that makes an operation from `(engine, request) -> iterator of responses`."""
    return lambda function: _operation(function, "POST", path, "stream")


def job(
    path: str, *, prepare: Prepare, request: type[BaseModel] | None = None
) -> Callable[[Callable[..., Any]], Operation]:
    """Decorator that makes an operation from `(work, request) -> result`.

    `request` is the type that clients send, if `prepare` turns it into another type.
    """
    return lambda function: _operation(function, "POST", path, "job", prepare, request)


def _operation(
    function: Callable[..., Any],
    method: Method,
    path: str,
    kind: Kind,
    prepare: Prepare | None = None,
    sent: type[BaseModel] | None = None,
) -> Operation:
    hints = get_type_hints(function)
    response = hints.pop("return")
    if get_origin(response) is Iterator:
        (response,) = get_args(response)
    stored = hints[list(hints)[1]]
    return Operation(
        name=function.__name__,
        method=method,
        path=path,
        kind=kind,
        run=function,
        request=sent or stored,
        response=response,
        prepare=prepare,
        stored=stored,
    )


def submit(engine: Engine, operation: Operation, request: BaseModel) -> str:
    """Put a job in the queue and return its id; raises as `prepare` and `JobQueue.submit` do."""
    assert operation.prepare is not None
    prepared = operation.prepare(engine, request)
    state = engine.jobs.submit(
        operation.name,
        prepared.request.model_dump(mode="json"),
        writes=prepared.writes,
        makes=prepared.makes,
        secret=prepared.secrets,
    )
    return state.id
