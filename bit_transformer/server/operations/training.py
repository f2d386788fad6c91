"""Training: whole runs, a few steps, a checkpoint on request."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bit_transformer.errors import ConflictError
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.models import check_model_size, trained_steps
from bit_transformer.server.operations.beginning import beginning
from bit_transformer.server.operations.callbacks import JobCallback
from bit_transformer.server.operations.registry import Engine, Prepared, direct, job
from bit_transformer.server.schemas import Name, Request, Response, RunName
from bit_transformer.server.training_request import RunSettings, new_run_name
from bit_transformer.training.config import RunConfig
from bit_transformer.training.fit import train_run
from bit_transformer.training.memory_estimate import fit_into_budget


class TrainRequest(RunSettings):
    """Train a new run, or go on with one."""

    resume: bool = False
    """Go on with `run` from its newest checkpoint; settings left out stay as they were."""


class StepRequest(Request):
    """Do some of the planned steps of a run."""

    run: Name
    """A run that init or train has made."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Optimizer steps to do now."""


class TrainingOrder(BaseModel):
    """A training as its job is told: all settings decided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    resume: bool
    config: RunConfig
    stop_after: int | None = None


class Trained(Response):
    """What a training came to."""

    run: str
    steps: int
    """Optimizer steps done, those before included."""
    data_bytes: int
    """Bytes of data trained on."""
    seconds: float
    """In training steps."""
    training_flops: float
    held_out_bits_per_byte: float | None
    held_out_bytes: int


class Saved(Response):
    """A checkpoint on request."""

    run: str
    requested: bool
    """A training saves after its step; without one, the newest checkpoint holds all there is."""
    step: int
    """Of the newest checkpoint by now."""


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
            f"{name!r} holds a model of other settings; leave `model` and `preset` out to go on "
            "with it, or train a new run under another name"
        )
    config = fit_into_budget(config)
    order = TrainingOrder(run=name, resume=before is not None, config=config)
    return Prepared(order, writes=name)


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
    order = TrainingOrder(run=request.run, resume=True, config=config, stop_after=request.steps)
    return Prepared(order, writes=request.run)


def _settings_of(engine: Engine, name: str) -> RunConfig:
    run = engine.run(name)
    if not run.exists():
        raise ConflictError(
            f"{name!r} is a model by itself, without the state that training goes on from; train "
            "a new run"
        )
    return run.config()


def _is_untouched(engine: Engine, name: str) -> bool:
    """Whether `init` has made the run and nothing has come of it yet."""
    path = engine.workspace.root / name
    return (path / "config.json").is_file() and not (path / "metrics.jsonl").exists()


@job("/train", prepare=_prepare_training, request=TrainRequest)
def train(work: Work, request: TrainingOrder) -> Trained:
    """Train a new run, or go on with one; settings are those of `bit-transformer train`.

    The job tells of every step, evaluation, telemetry reading, sample, checkpoint and drift alarm.
    Cancelled, it ends after its step, saved; an evaluation under way is made up for by whoever goes
    on with it.
    """
    return _train(work, request)


@job("/step", prepare=_prepare_steps, request=StepRequest)
def step(work: Work, request: TrainingOrder) -> Trained:
    """Do some of the planned steps of a run, then stop, evaluated and saved."""
    return _train(work, request)


def _train(work: Work, order: TrainingOrder) -> Trained:
    result = train_run(
        order.config,
        work.workspace.root / order.run,
        resume=order.resume,
        progress=False,
        callbacks=[JobCallback(work, order.stop_after)],
    )
    return Trained(
        run=order.run,
        **{name: getattr(result, name) for name in Trained.model_fields if name != "run"},
    )


@direct("POST", "/checkpoint", lane="control")
def checkpoint(engine: Engine, request: RunName) -> Saved:
    """Have a training save what it has learned, after the step it is at."""
    begun = beginning(engine, request.run)
    owner = engine.jobs.owner(request.run)
    saving = owner is not None and owner.state == "running" and owner.operation in ("train", "step")
    if saving and owner is not None:
        engine.jobs.save(owner.id)
    step = 0 if begun is not None else trained_steps(engine.workspace.run(request.run))
    return Saved(run=request.run, requested=saving, step=step)


OPERATIONS = (train, step, checkpoint)
