"""Runs that are being made: a job is queued, or a command line has just started.

Such a run has no settings on disk yet. Its settings are those in the request of its job.
"""

from dataclasses import dataclass

from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.errors import UnknownNameError
from bit_transformer.server.operations.registry import Engine
from bit_transformer.training.config import RunConfig
from bit_transformer.training.run_folder import RunFolder


@dataclass(frozen=True)
class StartingRun:
    """A run that is being made."""

    name: str
    created: float
    """Unix time of the request, in seconds."""
    job: str | None
    """Job that makes the run; None for a command line."""
    config: RunConfig | None
    """Settings of the run, if they are known."""


def starting_run(engine: Engine, name: str) -> StartingRun | None:
    """Return the run if it is being made, or None if it exists; raises `UnknownNameError`."""
    try:
        run = engine.workspace.run(name)
    except UnknownNameError:
        found = _run_of_job(engine, name)
        if found is None:
            raise
        return found
    if _exists(run):
        return None
    return _run_of_job(engine, name) or StartingRun(name, run.path.stat().st_mtime, None, None)


def starting_runs(engine: Engine) -> list[StartingRun]:
    """Return the runs that jobs will make and that do not exist yet, oldest first."""
    existing = {run.path.name for run in engine.workspace.runs() if _exists(run)}
    names = [state.writes for state in reversed(engine.jobs.states()) if not state.over]
    found = (_run_of_job(engine, name) for name in names if name and name not in existing)
    return [run for run in found if run is not None]


def _exists(run: RunFolder) -> bool:
    return run.exists() or (run.path / MANIFEST).is_file()


def _run_of_job(engine: Engine, name: str) -> StartingRun | None:
    owner = engine.jobs.owner(name)
    if owner is None:
        return None
    settings = engine.jobs.job(owner.id).request().get("config")
    config = None if settings is None else RunConfig.from_dict(settings)
    return StartingRun(name, owner.created, owner.id, config)
