"""What an operation is: a typed function with a name, a place in the REST interface and a kind.

direct   `(engine, request) -> response`, at once, in the server
stream   `(engine, request) -> iterator of responses`, in the server
job      `(work, request) -> result`, in a process of its own; asking for it gives the job

A direct operation runs in a lane. Each lane has threads of its own, so that who asks for a state or
ends a job never waits behind those who compute.

at_once  in the event loop: it takes no time and touches no file
control  looks at jobs and ends them
work     reads and writes files, prepares jobs
compute  runs a model; places are bounded, and who finds none is refused at once

A request is refused before it becomes a job where that can be known: `prepare` sees it first.
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
        # `ModelStore.place` bounds these, and says so instead of having requests wait.
        "compute": CapacityLimiter(math.inf),
    }


@dataclass(frozen=True)
class Engine:
    """What direct operations work with."""

    workspace: Workspace
    limits: Limits
    models: ModelStore
    jobs: JobQueue
    started: float
    """Unix time at which the server started."""
    lanes: dict[Lane, CapacityLimiter] = field(default_factory=_make_lanes)
    """Threads of each lane."""

    def run(self, name: str) -> RunFolder:
        """A run there is.

        Raises `BusyError` for one that a job is only about to make, and `UnknownNameError`.
        """
        try:
            return self.workspace.run(name)
        except UnknownNameError:
            self.jobs.require_free(name)
            raise

    def run_or_newest(self, name: str | None) -> RunFolder:
        """The run of that name, or the newest one; raises what `run` does."""
        return self.workspace.newest_run() if name is None else self.run(name)


@dataclass(frozen=True)
class Prepared:
    """A request that can become a job."""

    request: BaseModel
    writes: str | None = None
    """Run that only this job may write to."""
    makes: str | None = None
    """File that only this job may make."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """Taken out of the request; kept in memory only."""


Prepare = Callable[[Engine, Any], Prepared]


@dataclass(frozen=True)
class Operation:
    """One operation, however it is asked for."""

    name: str
    method: Method
    path: str
    kind: Kind
    run: Callable[..., Any]
    request: type[BaseModel]
    response: type[BaseModel]
    """Of a stream: of each of its parts. Of a job: of its result."""
    lane: Lane = "work"
    """Of a direct operation; jobs are put in their queue in `work`."""
    prepare: Prepare | None = None
    stored: type[BaseModel] | None = None
    """What a job's request is stored as, where that is another type."""

    @property
    def description(self) -> str:
        """The docstring."""
        return inspect.cleandoc(self.run.__doc__ or "")

    @property
    def answer(self) -> type[BaseModel]:
        """What whoever asks is given."""
        return Job if self.kind == "job" else self.response

    @property
    def path_fields(self) -> list[str]:
        """Fields of the request that stand in the path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def reads_only(self) -> bool:
        """Whether asking changes nothing."""
        return self.method == "GET"

    def stored_request(self, content: dict[str, Any]) -> BaseModel:
        """A job's request, as it was written down."""
        return (self.stored or self.request).model_validate(content)


def direct(
    method: Method, path: str, *, lane: Lane = "work"
) -> Callable[[Callable[..., Any]], Operation]:
    """Make an operation of `(engine, request) -> response`."""
    return lambda function: replace(_operation(function, method, path, "direct"), lane=lane)


def stream(path: str) -> Callable[[Callable[..., Any]], Operation]:
    """Make an operation of `(engine, request) -> iterator of responses`."""
    return lambda function: _operation(function, "POST", path, "stream")


def job(
    path: str, *, prepare: Prepare, request: type[BaseModel] | None = None
) -> Callable[[Callable[..., Any]], Operation]:
    """Make an operation of `(work, request) -> result`.

    `request` is what is asked for, where `prepare` makes something else of it.
    """
    return lambda function: _operation(function, "POST", path, "job", prepare, request)


def _operation(
    function: Callable[..., Any],
    method: Method,
    path: str,
    kind: Kind,
    prepare: Prepare | None = None,
    asked: type[BaseModel] | None = None,
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
        request=asked or stored,
        response=response,
        prepare=prepare,
        stored=stored,
    )


def submit(engine: Engine, operation: Operation, request: BaseModel) -> str:
    """Put a job in the queue; its identity. Raises what `prepare` and `JobQueue.submit` do."""
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
