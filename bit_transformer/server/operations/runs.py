"""Runs: make, list and show them, and import checkpoints."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from bit_transformer.atomic import storage_errors
from bit_transformer.checkpoint.format import MANIFEST, MODEL, read_manifest
from bit_transformer.errors import BitTransformerError, BusyError, ConfigError, ConflictError
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.server.jobs.folder import JobState
from bit_transformer.server.models import check_model_size, saved_step
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.operations.starting import StartingRun, starting_run, starting_runs
from bit_transformer.server.operations.status import shown_settings
from bit_transformer.server.schemas import (
    Name,
    Nothing,
    Request,
    Response,
    RunName,
    RunState,
    RunSummary,
)
from bit_transformer.server.training_request import RunSettings, new_run_name
from bit_transformer.training.run_folder import RunFolder

_MAX_MANIFEST_BYTES = 16 << 20


class Runs(Response):
    """All runs and models, oldest first."""

    runs: list[RunSummary]


class Checkpoint(Response):
    """One saved state of a run."""

    name: str
    step: int
    bits_per_byte: float | None
    """Held-out bits per byte when the checkpoint was saved."""
    bytes: int
    """Bytes on disk."""


class Run(Response):
    """Everything about one run."""

    summary: RunSummary
    settings: dict[str, Any] | None
    """All sections of RunConfig. None for a model without a run."""
    report: dict[str, Any] | None
    """Result of the run, once it has ended."""
    floors: dict[str, float] | None
    """Floors of the gate that was calibrated with the model."""
    checkpoints: list[Checkpoint]


class ImportRequest(Request):
    """Two uploaded files that form a checkpoint."""

    run: Name
    """Name of the new model."""
    weights: Name
    """Uploaded file with the weights, a model.safetensors."""
    manifest: Name
    """Uploaded file with the manifest, a manifest.json."""


@direct("POST", "/init")
def init(engine: Engine, request: RunSettings) -> Run:
    """Make an untrained run. It can be used at once, and trained with `train` or `step`."""
    name = request.run or new_run_name()
    run = engine.workspace.new_run(name)
    engine.jobs.require_free(name)
    config = request.resolved(engine.workspace)
    check_model_size(config.model, engine.limits)
    run.record_new(config)
    return describe(engine, run)


@direct("GET", "/runs")
def list_runs(engine: Engine, request: Nothing) -> Runs:
    """List all runs and models with their progress and their newest result."""
    starting = starting_runs(engine)
    names = {run.name for run in starting}
    existing = [run for run in engine.workspace.runs() if run.path.name not in names]
    return Runs(
        runs=[summarize(engine, run) for run in existing]
        + [_starting_summary(engine, run) for run in starting]
    )


@direct("GET", "/runs/{run}")
def get_run(engine: Engine, request: RunName) -> Run:
    """Show one run: settings, result, floors of its gate, checkpoints."""
    starting = starting_run(engine, request.run)
    if starting is None:
        return describe(engine, engine.workspace.run(request.run))
    settings = None if starting.config is None else shown_settings(starting.config.to_dict())
    summary = _starting_summary(engine, starting)
    return Run(summary=summary, settings=settings, report=None, floors=None, checkpoints=[])


@direct("POST", "/import_checkpoint", lane="compute")
def import_checkpoint(engine: Engine, request: ImportRequest) -> Run:
    """Make a model from uploaded safetensors and their manifest, after they have been verified.

    Other formats are refused. In particular nothing is unpickled or unpacked.
    """
    target = engine.workspace.new_run(request.run).path
    engine.jobs.require_free(request.run)
    sources = {
        MANIFEST: engine.workspace.file(request.manifest),
        MODEL: engine.workspace.file(request.weights),
    }
    if sources[MANIFEST].stat().st_size > _MAX_MANIFEST_BYTES:
        raise ConfigError(
            f"a manifest must have at most {_MAX_MANIFEST_BYTES} bytes, got "
            f"{sources[MANIFEST].stat().st_size} in {request.manifest}; upload a manifest.json"
        )
    private = engine.workspace.jobs.parent
    with storage_errors(target), tempfile.TemporaryDirectory(dir=private) as at:
        staging = Path(at) / "checkpoint"
        staging.mkdir()
        # Copied, because an upload may be replaced later, and the model must stay as verified.
        for name, source in sources.items():
            shutil.copyfile(source, staging / name)
        engine.models.verify(staging)
        try:
            staging.rename(target)
        except OSError as error:
            raise ConflictError(f"{request.run!r} is taken; choose another name") from error
    return describe(engine, RunFolder(target))


def describe(engine: Engine, run: RunFolder) -> Run:
    """Return everything about an existing run."""
    settings = run.config().to_dict() if run.exists() else None
    return Run(
        summary=summarize(engine, run),
        settings=None if settings is None else shown_settings(settings),
        report=run.report(),
        floors=_floors(run),
        checkpoints=_checkpoints(run),
    )


def summarize(engine: Engine, run: RunFolder) -> RunSummary:
    """Return the summary of a run. If the run cannot be read, `problem` says why."""
    name = run.path.name
    starting = starting_run(engine, name)
    if starting is not None:
        return _starting_summary(engine, starting)
    owner = engine.jobs.owner(name)
    writer = engine.workspace.writer(name) if owner is None else None
    facts: dict[str, Any] = {"step": 0, "steps": 0, "bits_per_byte": None, "ended": False}
    try:
        if run.exists():
            facts |= run.summary()
        else:
            saved = read_manifest(run.path)["metadata"]
            facts["step"] = saved_step(saved)
            facts["bits_per_byte"] = _saved_result(saved)
            facts["ended"] = True
    except BitTransformerError as error:
        facts["problem"] = str(error)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # A run that was pulled from the hub may hold anything.
        facts["problem"] = f"its records cannot be read ({type(error).__name__}: {error})"
    facts.pop("run", None)
    return RunSummary(
        name=name,
        state=_state(run, owner, writer, ended=facts["ended"]),
        job=None if owner is None else owner.id,
        writer=None if writer is None else writer.owner,
        created=run.path.stat().st_mtime,
        **facts,
    )


def _state(
    run: RunFolder, owner: JobState | None, writer: BusyError | None, *, ended: bool
) -> RunState:
    has_records = run.metrics.exists()
    if owner is not None or writer is not None:
        waits = owner is not None and owner.state == "queued"
        return "training" if has_records and not waits else "starting"
    if ended:
        return "ended"
    return "interrupted" if has_records else "untrained"


def _starting_summary(engine: Engine, run: StartingRun) -> RunSummary:
    writer = engine.workspace.writer(run.name) if run.job is None else None
    return RunSummary(
        name=run.name,
        step=0,
        steps=0 if run.config is None else run.config.train.steps,
        bits_per_byte=None,
        ended=False,
        state="starting",
        job=run.job,
        writer=None if writer is None else writer.owner,
        created=run.created,
    )


def _floors(run: RunFolder) -> dict[str, float] | None:
    try:
        gate = SafetyGate.from_pretrained(run.path)
    except (BitTransformerError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return None if gate is None else dict(gate.policy.floors)


def _checkpoints(run: RunFolder) -> list[Checkpoint]:
    folder = run.checkpoints
    paths = [folder.path_of(step) for step in folder.steps()] or [run.path]
    found = []
    for path in paths:
        try:
            manifest = read_manifest(path)
        except BitTransformerError:
            continue
        metadata = manifest["metadata"]
        found.append(
            Checkpoint(
                name=path.name,
                step=saved_step(metadata),
                bits_per_byte=_saved_result(metadata),
                bytes=sum(entry["size"] for entry in manifest["files"].values()),
            )
        )
    return found


def _saved_result(metadata: dict[str, Any]) -> float | None:
    found = metadata.get("held_out_bits_per_byte")
    return float(found) if isinstance(found, int | float) else None


OPERATIONS = (init, list_runs, get_run, import_checkpoint)
