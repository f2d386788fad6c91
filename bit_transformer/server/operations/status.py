"""The server's health and state; metrics and settings of a run."""

import functools
import importlib.util
import os
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from bit_transformer.errors import UnknownNameError
from bit_transformer.server.models import weight_bytes
from bit_transformer.server.operations.beginning import Beginning, beginning
from bit_transformer.server.operations.jobs import job_document
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.schemas import Job, NewestRun, Nothing, Response
from bit_transformer.training.callbacks.metrics_log import read_metrics
from bit_transformer.training.config import RunConfig

RecordKind = Literal["step", "evaluation", "telemetry", "recovery", "abandoned"]


class Health(Response):
    """The server answers."""

    status: Literal["ok"]
    version: str


class Status(Response):
    """What the server is doing."""

    version: str
    uptime_seconds: float
    device: str
    """Where models compute by default."""
    processors: int
    gpu: str | None
    """Name of the GPU, if there is one."""
    running: list[Job]
    """Jobs under way."""
    queued: int
    """Jobs that wait."""
    runs: int
    """Runs and models there are."""
    newest_run: str | None
    limits: dict[str, float]
    """Bounds of this server by name."""
    features: dict[str, bool]
    """What optional libraries allow."""


class MetricsRequest(NewestRun):
    """Which records of a run."""

    after_step: Annotated[int, Field(ge=0)] = 0
    """Only records of later steps."""
    kind: RecordKind | None = None
    """Only records of this kind."""
    limit: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """At most so many, the newest."""


class Metrics(Response):
    """Records of a run, in the order they were written."""

    run: str
    records: list[dict[str, Any]]
    """Each has a `kind` and a `step`."""


class ModelSettings(Response):
    """A model and how it is trained."""

    run: str
    model: dict[str, Any]
    """Fields of ModelConfig, and `quantization` where there is one."""
    weight_bytes: int
    """Of all weights in float32."""
    settings: dict[str, Any] | None
    """All sections of RunConfig; None for a model by itself."""


@direct("GET", "/health", lane="at_once")
def health(engine: Engine, request: Nothing) -> Health:
    """Whether the server answers; the one operation that needs no token."""
    return Health(status="ok", version=package_version())


@direct("GET", "/status", lane="control")
def status(engine: Engine, request: Nothing) -> Status:
    """Jobs under way, device, limits and features of the server."""
    states = engine.jobs.states()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    runs = engine.workspace.runs()
    return Status(
        version=package_version(),
        uptime_seconds=time.time() - engine.started,
        device="cpu" if gpu is None else "cuda",
        processors=os.cpu_count() or 1,
        gpu=gpu,
        running=[job_document(engine.jobs, one) for one in states if one.state == "running"],
        queued=sum(one.state == "queued" for one in states),
        runs=len(runs),
        newest_run=runs[-1].path.name if runs else None,
        limits=vars(engine.limits),
        features=_features(),
    )


@direct("GET", "/metrics")
def metrics(engine: Engine, request: MetricsRequest) -> Metrics:
    """Records of a run's steps, evaluations, telemetry readings and recoveries."""
    name = request.run or engine.workspace.newest_run().path.name
    if beginning(engine, name) is not None:
        return Metrics(run=name, records=[])
    run = engine.workspace.run(name)
    records = [
        record
        for record in read_metrics(run.metrics)
        if _step_of(record) > request.after_step
        and (request.kind is None or record["kind"] == request.kind)
    ]
    return Metrics(run=run.path.name, records=records[-request.limit :])


@direct("GET", "/model_config")
def model_config(engine: Engine, request: NewestRun) -> ModelSettings:
    """Settings of a run's model and of its training."""
    name = request.run or engine.workspace.newest_run().path.name
    begun = beginning(engine, name)
    if begun is not None:
        return _settings_of_beginning(engine, begun)
    run = engine.workspace.run(name)
    model = engine.models.settings(run)
    settings = run.config() if run.exists() else None
    own = {key: value for key, value in model.items() if key != "quantization"}
    return ModelSettings(
        run=run.path.name,
        model=model,
        weight_bytes=weight_bytes(RunConfig.from_dict({"model": own}).model),
        settings=None if settings is None else shown_settings(settings.to_dict()),
    )


def _settings_of_beginning(engine: Engine, begun: Beginning) -> ModelSettings:
    if begun.config is None:
        engine.jobs.require_free(begun.name)
        engine.workspace.require_unwritten(begun.name)
        raise UnknownNameError(f"there is no run {begun.name!r}; what made it has ended")
    return ModelSettings(
        run=begun.name,
        model=begun.config.model.to_dict(),
        weight_bytes=weight_bytes(begun.config.model),
        settings=shown_settings(begun.config.to_dict()),
    )


def _step_of(record: Mapping[str, Any]) -> float:
    """The step that a record speaks of; a run that was pulled may hold records of any kind."""
    step = record.get("step")
    return float(step) if "kind" in record and isinstance(step, int | float) else -1.0


def shown_settings(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are shown to clients: where files lie is no concern of theirs."""
    data = dict(sections["data"])
    data["sources"] = [
        source if source.startswith("hf://") else os.path.basename(source)
        for source in data["sources"]
    ]
    return {**sections, "data": data}


@functools.cache
def package_version() -> str:
    """The installed version; `0` in a bare checkout."""
    try:
        return version("bit-transformer")
    except PackageNotFoundError:
        return "0"


def _features() -> dict[str, bool]:
    libraries = {
        "hub": "huggingface_hub",
        "int4": "torchao",
        "tensorboard": "tensorboard",
        "trackio": "trackio",
        "pictures": "matplotlib",
        "drift": "river",
        "datasets": "datasets",
    }
    return {
        name: importlib.util.find_spec(module) is not None for name, module in libraries.items()
    }


OPERATIONS = (health, status, metrics, model_config)
