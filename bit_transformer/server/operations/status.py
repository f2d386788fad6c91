"""Health and status of the server; metrics and settings of a run."""

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
from bit_transformer.server.operations.jobs import job_document
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.operations.starting import StartingRun, starting_run
from bit_transformer.server.schemas import Job, NewestRun, Nothing, Response
from bit_transformer.training.config import RunConfig
from bit_transformer.training.run_folder import read_metrics

RecordKind = Literal["step", "evaluation", "telemetry", "recovery", "abandoned"]


class Health(Response):
    """Health of the server."""

    status: Literal["ok"]
    version: str


class Status(Response):
    """Status of the server."""

    version: str
    uptime_seconds: float
    device: str
    """Device that models use by default."""
    processors: int
    gpu: str | None
    """Name of the GPU, if there is one."""
    running: list[Job]
    """Running jobs."""
    queued: int
    """Number of waiting jobs."""
    runs: int
    """Number of runs and models."""
    newest_run: str | None
    limits: dict[str, float]
    """Limits of this server by name."""
    features: dict[str, bool]
    """Whether the optional library of each feature is installed."""


class MetricsRequest(NewestRun):
    """Which records of a run to return."""

    after_step: Annotated[int, Field(ge=0)] = 0
    """Only records of later steps."""
    kind: RecordKind | None = None
    """Only records of this kind."""
    limit: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """At most this many records, the newest ones."""


class Metrics(Response):
    """Records of a run, in the order in which they were written."""

    run: str
    records: list[dict[str, Any]]
    """Each record has a `kind` and a `step`."""


class ModelSettings(Response):
    """Settings of a model and of its training."""

    run: str
    model: dict[str, Any]
    """Fields of ModelConfig, and `quantization` if the model is quantized."""
    weight_bytes: int
    """Bytes of all weights in float32."""
    settings: dict[str, Any] | None
    """All sections of RunConfig. None for a model without a run."""


@direct("GET", "/health", lane="at_once")
def health(engine: Engine, request: Nothing) -> Health:
    """Report that the server answers. This is the only operation that needs no token."""
    return Health(status="ok", version=package_version())


@direct("GET", "/status", lane="control")
def status(engine: Engine, request: Nothing) -> Status:
    """Show running jobs, device, limits and features of the server."""
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
    """Return the records of a run's steps, evaluations, telemetry and recoveries."""
    name = request.run or engine.workspace.newest_run().path.name
    if starting_run(engine, name) is not None:
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
    """Return the settings of a run's model and of its training."""
    name = request.run or engine.workspace.newest_run().path.name
    starting = starting_run(engine, name)
    if starting is not None:
        return _starting_settings(engine, starting)
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


def _starting_settings(engine: Engine, run: StartingRun) -> ModelSettings:
    if run.config is None:
        engine.jobs.require_free(run.name)
        engine.workspace.require_unwritten(run.name)
        raise UnknownNameError(
            f"there is no run {run.name!r}; the process that was making it has ended"
        )
    return ModelSettings(
        run=run.name,
        model=run.config.model.to_dict(),
        weight_bytes=weight_bytes(run.config.model),
        settings=shown_settings(run.config.to_dict()),
    )


def _step_of(record: Mapping[str, Any]) -> float:
    """Return the step of a record; -1 if a run from the hub holds something else there."""
    step = record.get("step")
    return float(step) if "kind" in record and isinstance(step, int | float) else -1.0


def shown_settings(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as clients see them: without the folders of the server's files."""
    data = dict(sections["data"])
    data["sources"] = [
        source if source.startswith("hf://") else os.path.basename(source)
        for source in data["sources"]
    ]
    return {**sections, "data": data}


@functools.cache
def package_version() -> str:
    """Return the installed version, or `0` in a source checkout without an installation."""
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
