"""Training: a whole run, a few steps, a checkpoint on request."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bit_transformer.errors import ConflictError
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.models import check_model_size, trained_steps
from bit_transformer.server.operations.callbacks import JobCallback
from bit_transformer.server.operations.registry import Engine, Prepared, direct, job
from bit_transformer.server.operations.starting import starting_run
from bit_transformer.server.schemas import Name, Request, Response, RunName
from bit_transformer.server.training_request import RunSettings, new_run_name
from bit_transformer.training.config import RunConfig
from bit_transformer.training.fit import train_run
from bit_transformer.training.memory_estimate import fit_into_budget


class TrainRequest(RunSettings):
    """Train a new run, or resume one."""

    resume: bool = False
    """Resume `run` from its newest checkpoint. Settings that are left out do not change."""


class StepRequest(Request):
    """Do some of the planned steps of a run."""

    run: Name
    """A run made by init or train."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Optimizer steps to do now."""


class StoredTrainRequest(BaseModel):
    """The request as it is stored for the job, with all settings resolved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    resume: bool
    config: RunConfig
    stop_after: int | None = None


class Trained(Response):
    """Result of a training."""

    run: str
    steps: int
    """Optimizer steps done, including those before this job."""
    data_bytes: int
    """Bytes of data trained on."""
    seconds: float
    """Seconds spent in training steps."""
    training_flops: float
    held_out_bits_per_byte: float | None
    held_out_bytes: int


class Saved(Response):
    """Answer to a request for a checkpoint."""

    run: str
    requested: bool
    """Whether a training will save after its current step. If none is running, there is nothing
    newer to save."""
    step: int
    """Step of the newest checkpoint at this time."""


def _prepare_training(engine: Engine, request: TrainRequest) -> Prepared:
    name = request.run or new_run_name()
    engine.jobs.require_free(name)
    before = None
    if request.resume or _is_untouched(engine, name):
        before = _settings_of(engine, name)
        engine.workspace.require_unwritten(name)
    else:
        engine.workspace.new_run(name)
    config = request.resolved(engine.workspace, before)
    check_model_size(config.model, engine.limits)
    if before is not None and before.model != config.model:
        raise ConflictError(
            f"{name!r} holds a model with other settings; leave `model` and `preset` out to resume "
            "it, or train a new run under another name"
        )
    config = fit_into_budget(config)
    stored = StoredTrainRequest(run=name, resume=before is not None, config=config)
    return Prepared(stored, writes=name)


def _prepare_steps(engine: Engine, request: StepRequest) -> Prepared:
    config = RunSettings().resolved(engine.workspace, _settings_of(engine, request.run))
    engine.jobs.require_free(request.run)
    engine.workspace.require_unwritten(request.run)
    done = trained_steps(engine.run(request.run))
    if done >= config.train.steps:
        raise ConflictError(
            f"{request.run!r} has done all of its {config.train.steps} planned steps; plan more "
            'with train: {"resume": true, "train": {"steps": ...}}'
        )
    config = fit_into_budget(config)
    stored = StoredTrainRequest(
        run=request.run, resume=True, config=config, stop_after=request.steps
    )
    return Prepared(stored, writes=request.run)


def _settings_of(engine: Engine, name: str) -> RunConfig:
    run = engine.run(name)
    if not run.exists():
        raise ConflictError(
            f"{name!r} is a model without a training state and cannot be resumed; train a new run"
        )
    return run.config()


def _is_untouched(engine: Engine, name: str) -> bool:
    """Return whether `init` has made the run and it has no records yet."""
    path = engine.workspace.root / name
    return (path / "config.json").is_file() and not (path / "metrics.jsonl").exists()


@job("/train", prepare=_prepare_training, request=TrainRequest)
def train(work: Work, request: StoredTrainRequest) -> Trained:
    """Train a new run, or resume one. The settings are those of `bit-transformer train`.

    The job writes a record for every step, evaluation, telemetry reading, sample, checkpoint and
    drift alarm. When it is cancelled, it finishes its step and saves. An evaluation that was
    interrupted is repeated when the run is resumed.
    """
    return _train(work, request)


@job("/step", prepare=_prepare_steps, request=StepRequest)
def step(work: Work, request: StoredTrainRequest) -> Trained:
    """Do some of the planned steps of a run, then evaluate and save."""
    return _train(work, request)


def _train(work: Work, request: StoredTrainRequest) -> Trained:
    result = train_run(
        request.config,
        work.workspace.root / request.run,
        resume=request.resume,
        progress=False,
        callbacks=[JobCallback(work, request.stop_after)],
    )
    return Trained(
        run=request.run,
        **{name: getattr(result, name) for name in Trained.model_fields if name != "run"},
    )


@direct("POST", "/checkpoint", lane="control")
def checkpoint(engine: Engine, request: RunName) -> Saved:
    """Ask a training to save a checkpoint after its current step."""
    starting = starting_run(engine, request.run)
    owner = engine.jobs.owner(request.run)
    saving = owner is not None and owner.state == "running" and owner.operation in ("train", "step")
    if saving and owner is not None:
        engine.jobs.save(owner.id)
    step = 0 if starting is not None else trained_steps(engine.workspace.run(request.run))
    return Saved(run=request.run, requested=saving, step=step)


OPERATIONS = (train, step, checkpoint)
