"""Runs that are being made: a job has been asked for, or a command line has just begun.

Such a run has no settings on disk yet. Whoever asks for it is told what its job was asked for.
"""

from dataclasses import dataclass

from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.errors import UnknownNameError
from bit_transformer.server.operations.registry import Engine
from bit_transformer.training.config import RunConfig
from bit_transformer.training.run_folder import RunFolder


@dataclass(frozen=True)
class Beginning:
    """A run that is being made."""

    name: str
    created: float
    """Unix time at which it was asked for."""
    job: str | None
    """The job that makes it; None for a command line."""
    config: RunConfig | None
    """Its settings, where they are known."""


def beginning(engine: Engine, name: str) -> Beginning | None:
    """The run of that name, if it is being made; None for one that is there.

    Raises `UnknownNameError` for one that is neither.
    """
    try:
        run = engine.workspace.run(name)
    except UnknownNameError:
        found = _of_a_job(engine, name)
        if found is None:
            raise
        return found
    if _is_there(run):
        return None
    return _of_a_job(engine, name) or Beginning(name, run.path.stat().st_mtime, None, None)


def beginnings(engine: Engine) -> list[Beginning]:
    """The runs that jobs are to make and that are not there yet, oldest first."""
    there = {run.path.name for run in engine.workspace.runs() if _is_there(run)}
    names = [one.writes for one in reversed(engine.jobs.states()) if not one.over]
    found = (_of_a_job(engine, name) for name in names if name is not None and name not in there)
    return [one for one in found if one is not None]


def _is_there(run: RunFolder) -> bool:
    return run.exists() or (run.path / MANIFEST).is_file()


def _of_a_job(engine: Engine, name: str) -> Beginning | None:
    owner = engine.jobs.owner(name)
    if owner is None:
        return None
    settings = engine.jobs.job(owner.id).request().get("config")
    config = None if settings is None else RunConfig.from_dict(settings)
    return Beginning(name, owner.created, owner.id, config)
