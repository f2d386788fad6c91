"""Request and response types that several operations share: names, runs, jobs.

Docstrings of fields become descriptions in the JSON schemas. The settings classes of other packages
are plain dataclasses without a pydantic configuration, so pydantic applies the one of the model
that holds them: the `model_config` of `Request`.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bit_transformer.inference.sampling_config import MAX_SEED
from bit_transformer.server.jobs.folder import State
from bit_transformer.server.settings import MAX_TEXT, NAME_PATTERN


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Seconds = Annotated[float, AfterValidator(_finite)]
JobIdentity = Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{12}-[0-9a-f]{6}$")]
ItemIdentity = Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{6}$")]


class Request(BaseModel):
    """Base class of requests. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Response(BaseModel):
    """Base class of responses."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Nothing(Request):
    """A request without fields."""


class RunName(Request):
    """One run."""

    run: Name
    """Name of a run."""


class NewestRun(Request):
    """One run, by default the newest."""

    run: Name | None = None
    """Name of a run; by default the newest one."""


class Progress(Response):
    """Progress of a job."""

    done: float
    total: float | None
    """None while the total is unknown."""
    unit: str
    """Unit of `done` and `total`: steps or bytes."""
    seconds_left: float | None
    """Estimated from the speed so far."""


class Job(Response):
    """A job: work in a process of its own."""

    id: str
    operation: str
    """Name of the operation that the job carries out."""
    state: State
    """State of the job. A cancelled training has finished its step and saved."""
    run: str | None
    """Run that only this job may write to until it is over."""
    created: float
    """Unix time in seconds, like all times here."""
    started: float | None
    ended: float | None
    cancel_requested: bool
    ahead: int | None
    """Number of jobs before it in the queue. None once it has started."""
    progress: Progress | None
    error: str | None
    """Why the job failed, in one sentence."""
    log: list[str]
    """The last lines that its process printed, if the job failed."""
    result: dict[str, Any] | None
    """Result, once the job is over. Its fields are listed in the description of the operation."""


class Jobs(Response):
    """Jobs, newest first."""

    jobs: list[Job]
    total: int
    """Number of all jobs that match, also those beyond `limit`."""


RunState = Literal["starting", "training", "interrupted", "ended", "untrained"]


class RunSummary(Response):
    """One line about a run."""

    name: str
    step: int
    """Optimizer steps done."""
    steps: int
    """Optimizer steps planned."""
    bits_per_byte: float | None
    """Newest held-out result."""
    ended: bool
    """Whether the run has completed at least once."""
    problem: str | None = None
    """Why the run cannot be read, if it cannot."""
    state: RunState
    """A starting run has no records yet. An interrupted run has records but no result, and nobody
    writes to it. A model without a run counts as ended."""
    job: str | None
    """Job that writes to the run now."""
    writer: str | None = None
    """Process that writes to the run now, if it is not a job of this server."""
    created: float
    """Unix time in seconds."""
