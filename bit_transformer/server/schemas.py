"""What several operations take and give: names, runs, jobs."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, with_config

from bit_transformer.compression.config import CodecConfig
from bit_transformer.inference.sampling_config import MOST_SEED, SamplingConfig
from bit_transformer.server.jobs.folder import State
from bit_transformer.server.settings import MOST_TEXT, NAME_PATTERN

# Their fields explain themselves in JSON schemas too, and unknown ones are refused.
for _settings in (SamplingConfig, CodecConfig):
    with_config(ConfigDict(extra="forbid", use_attribute_docstrings=True))(_settings)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Seconds = Annotated[float, AfterValidator(_finite)]
JobIdentity = Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{12}-[0-9a-f]{6}$")]
ItemIdentity = Annotated[str, Field(pattern=r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{6}$")]


class Request(BaseModel):
    """Base of what operations take: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Response(BaseModel):
    """Base of what operations give."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Nothing(Request):
    """An operation that takes nothing."""


class RunName(Request):
    """One run."""

    run: Name
    """Name of a run."""


class NewestRun(Request):
    """One run, by default the newest."""

    run: Name | None = None
    """Name of a run; left out, the newest one."""


class Progress(Response):
    """How far a job is."""

    done: float
    total: float | None
    """None while nobody knows."""
    unit: str
    """What is counted: steps, bytes."""
    seconds_left: float | None
    """Estimated from the speed so far."""


class Job(Response):
    """A job: work in a process of its own."""

    id: str
    operation: str
    """Name of the operation it carries out."""
    state: State
    """A cancelled job has ended what it was at and saved."""
    run: str | None
    """Run that only this job may write to until it is over."""
    created: float
    """Unix time, as all times here."""
    started: float | None
    ended: float | None
    cancel_requested: bool
    ahead: int | None
    """Jobs that come before it in the queue; None once it has begun."""
    progress: Progress | None
    error: str | None
    """Why it failed, in one sentence."""
    log: list[str]
    """The last lines its process printed, when it failed."""
    result: dict[str, Any] | None
    """What came of it, once it is over; for each operation the schema is in its description."""


class Jobs(Response):
    """Jobs, newest first."""

    jobs: list[Job]
    total: int
    """How many there are in all."""


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
    """Whether it came to its end at least once."""
    problem: str | None = None
    """Why nothing can be said of it, where that is so."""
    state: RunState
    """Starting: its first records are still to come. Interrupted: it has records, no result, and
    nobody writes to it. A model by itself has ended."""
    job: str | None
    """Job that writes to it now."""
    writer: str | None = None
    """Who writes to it now, where that is no job of this server."""
    created: float
    """Unix time."""
