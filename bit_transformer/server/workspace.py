"""The runs folder: the only place a server reads from and writes to.

NAME/              a run, see training/run_folder.py, or a model by itself
.server/jobs/ID/   a job, see jobs/folder.py
.server/files/     uploads, and what compression makes of them
.server/review/    the review queue
.server/token      the bearer token, mode 0600
.server/lock       held by the one server of this folder
"""

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from bit_transformer.checkpoint.atomic import storage_errors
from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.checkpoint.lock import LOCK, writer_of
from bit_transformer.errors import BusyError, ConfigError, ConflictError, UnknownNameError
from bit_transformer.server.settings import NAME_PATTERN
from bit_transformer.training.run_folder import RunFolder


@dataclass(frozen=True)
class Workspace:
    """Paths below one root, each made of a checked name."""

    root: Path

    @property
    def jobs(self) -> Path:
        """A folder for every job there ever was."""
        return self.root / ".server" / "jobs"

    @property
    def files(self) -> Path:
        """Uploads and outputs."""
        return self.root / ".server" / "files"

    @property
    def review(self) -> Path:
        """The review queue."""
        return self.root / ".server" / "review"

    @property
    def token(self) -> Path:
        """The bearer token's file."""
        return self.root / ".server" / "token"

    def prepare(self) -> None:
        """Make the folders; `StorageError` where that fails."""
        with storage_errors(self.root):
            for folder in (self.jobs, self.files, self.review):
                folder.mkdir(parents=True, exist_ok=True)
            self.jobs.parent.chmod(0o700)

    def runs(self) -> list[RunFolder]:
        """Runs and models that can be asked for, oldest first."""
        dated = [
            (_changed(marker), path.name)
            for path in self.root.iterdir()
            if self._is_inside(self.root, path.name) and (marker := _marker(path)) is not None
        ]
        return [RunFolder(self.root / name) for _, name in sorted(dated)]

    def run(self, name: str) -> RunFolder:
        """A run or a model there is; raises `UnknownNameError`."""
        run = RunFolder(self._inside(self.root, name))
        if _marker(run.path) is None:
            names = [one.path.name for one in self.runs()][-5:]
            newest = f"; the newest are {', '.join(names)}" if names else "; there are no runs yet"
            raise UnknownNameError(f"there is no run {name!r}{newest}")
        return run

    def newest_run(self) -> RunFolder:
        """The run or model that was made last; raises `UnknownNameError` when there is none."""
        runs = self.runs()
        if not runs:
            raise UnknownNameError("there are no runs yet; make one with init, train or pull")
        return runs[-1]

    def run_or_newest(self, name: str | None) -> RunFolder:
        """The run of that name, or the newest one."""
        return self.newest_run() if name is None else self.run(name)

    def new_run(self, name: str) -> RunFolder:
        """A run there is not; raises `ConflictError`, and `BusyError` while it is being made."""
        path = self._inside(self.root, name)
        if path.exists():
            self.require_unwritten(name)
            raise ConflictError(f"{name!r} is taken; choose another name for the new run")
        return RunFolder(path)

    def writer(self, name: str) -> BusyError | None:
        """Who writes to a run now, a job or a command line; None when nobody does."""
        return writer_of(self.root / name)

    def require_unwritten(self, name: str) -> None:
        """Raise `BusyError`, which says who it is, while somebody writes to a run."""
        writer = self.writer(name)
        if writer is not None:
            raise writer

    @functools.cached_property
    def ignores_case(self) -> bool:
        """Whether the file system takes names that differ in case alone for one."""
        return (self.root / ".SERVER").exists()

    def are_same(self, one: str | None, other: str | None) -> bool:
        """Whether two names mean one thing here."""
        if one is None or other is None:
            return False
        return one == other or (self.ignores_case and one.casefold() == other.casefold())

    def file_names(self) -> list[str]:
        """Files that can be asked for, by name."""
        names = sorted(path.name for path in self.files.iterdir() if path.is_file())
        return [name for name in names if self._is_inside(self.files, name)]

    def file(self, name: str) -> Path:
        """A file there is; raises `UnknownNameError`."""
        path = self._inside(self.files, name)
        if not path.is_file():
            raise UnknownNameError(f"there is no file {name!r}; upload it with PUT /files/{name}")
        return path

    def new_file(self, name: str) -> Path:
        """A file there is not; raises `ConflictError`."""
        path = self._inside(self.files, name)
        if path.exists():
            raise ConflictError(f"the file {name!r} is there already; choose another name")
        return path

    def _inside(self, folder: Path, name: str) -> Path:
        if not self._is_inside(folder, name):
            raise UnknownNameError(
                f"{name!r} is no name here: letters, digits, dot, dash and underscore, at most "
                "100, beginning with a letter or digit"
            )
        return folder / name

    def _is_inside(self, folder: Path, name: str) -> bool:
        """Whether it is a name, and a link of that name leads nowhere else."""
        if not re.fullmatch(NAME_PATTERN.strip("^$"), name):
            return False
        return (folder / name).resolve() == folder.resolve() / name


def claim(partial: Path, target: Path) -> None:
    """Give a finished file its name, unless somebody else has taken it: `ConflictError`."""
    try:
        # Unlike a rename, a link does not replace.
        os.link(partial, target)
    except OSError as error:
        if target.exists():
            raise ConflictError(f"the file {target.name!r} has come to be meanwhile") from error
        partial.rename(target)


def _marker(path: Path) -> Path | None:
    """The file that makes a folder a run, a model, or a run that is being made."""
    for name in ("config.json", MANIFEST):
        if (path / name).is_file():
            return path / name
    # A run that a command line has just begun holds nothing but its lock.
    return path / LOCK if writer_of(path) is not None else None


def _changed(path: Path) -> float:
    """When a file was written; 0 for one that has just gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def open_workspace(root: Path) -> Workspace:
    """The workspace of a folder, made where there is none; `ConfigError` for what is no folder."""
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is no folder; name the folder that holds the runs")
    workspace = Workspace(root.resolve())
    workspace.prepare()
    return workspace
