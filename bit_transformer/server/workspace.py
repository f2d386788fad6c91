"""The runs folder, the only place that a server reads from and writes to.

NAME/              a run (see training/run_folder.py), or a model without a run
.server/jobs/ID/   a job (see jobs/folder.py)
.server/files/     uploads, and outputs of compression
.server/review/    the review queue
.server/token      the bearer token, mode 0600
.server/lock       held by the server that has the folder open
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bit_transformer.atomic import storage_errors, temporary_sibling
from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.checkpoint.lock import LOCK, writer_of
from bit_transformer.errors import BusyError, ConfigError, ConflictError, UnknownNameError
from bit_transformer.server.settings import NAME_PATTERN
from bit_transformer.training.run_folder import RunFolder


@dataclass(frozen=True)
class Workspace:
    """Paths below one root, each made from a validated name."""

    root: Path

    @property
    def jobs(self) -> Path:
        """Folder with a folder for each job."""
        return self.root / ".server" / "jobs"

    @property
    def files(self) -> Path:
        """Folder of uploads and outputs."""
        return self.root / ".server" / "files"

    @property
    def review(self) -> Path:
        """Folder of the review queue."""
        return self.root / ".server" / "review"

    @property
    def token(self) -> Path:
        """File of the bearer token."""
        return self.root / ".server" / "token"

    def prepare(self) -> None:
        """Create the folders; raises `StorageError`."""
        with storage_errors(self.root):
            for folder in (self.jobs, self.files, self.review):
                folder.mkdir(parents=True, exist_ok=True)
            self.jobs.parent.chmod(0o700)

    def runs(self) -> list[RunFolder]:
        """Return all runs and models, oldest first."""
        dated = [
            (_changed(marker), path.name)
            for path in self.root.iterdir()
            if self._is_inside(self.root, path.name) and (marker := _marker(path)) is not None
        ]
        return [RunFolder(self.root / name) for _, name in sorted(dated)]

    def run(self, name: str) -> RunFolder:
        """Return an existing run or model; raises `UnknownNameError`."""
        run = RunFolder(self._inside(self.root, name))
        if _marker(run.path) is None:
            names = [one.path.name for one in self.runs()][-5:]
            newest = f"; the newest are {', '.join(names)}" if names else "; there are no runs yet"
            raise UnknownNameError(f"there is no run {name!r}{newest}")
        return run

    def newest_run(self) -> RunFolder:
        """Return the newest run or model; raises `UnknownNameError` if there is none."""
        runs = self.runs()
        if not runs:
            raise UnknownNameError("there are no runs yet; make one with init, train or pull")
        return runs[-1]

    def new_run(self, name: str) -> RunFolder:
        """Return a new run; raises `ConflictError` if taken, `BusyError` while it is being made."""
        path = self._inside(self.root, name)
        if path.exists():
            self.require_unwritten(name)
            raise ConflictError(f"{name!r} is taken; choose another name for the new run")
        return RunFolder(path)

    def writer(self, name: str) -> BusyError | None:
        """Return an error that names the process that writes to a run, or None if there is none."""
        return writer_of(self.root / name)

    def require_unwritten(self, name: str) -> None:
        """Raise `BusyError`, which names the writer, while a process writes to a run."""
        writer = self.writer(name)
        if writer is not None:
            raise writer

    @functools.cached_property
    def ignores_case(self) -> bool:
        """Whether the file system ignores case in names, as on macOS."""
        return (self.root / ".SERVER").exists()

    def are_same(self, one: str | None, other: str | None) -> bool:
        """Return whether two names mean the same run or file on this file system."""
        if one is None or other is None:
            return False
        return one == other or (self.ignores_case and one.casefold() == other.casefold())

    def file_names(self) -> list[str]:
        """Return the names of all files, sorted."""
        names = sorted(path.name for path in self.files.iterdir() if path.is_file())
        return [name for name in names if self._is_inside(self.files, name)]

    def file(self, name: str) -> Path:
        """Return the path of an existing file; raises `UnknownNameError`."""
        path = self._inside(self.files, name)
        if not path.is_file():
            raise UnknownNameError(f"there is no file {name!r}; upload it with PUT /files/{name}")
        return path

    def new_file(self, name: str) -> Path:
        """Return the path of a file that does not exist yet; raises `ConflictError`."""
        path = self._inside(self.files, name)
        if path.exists():
            raise ConflictError(f"the file {name!r} exists already; choose another name")
        return path

    @contextmanager
    def create_file(self, name: str) -> Iterator[BinaryIO]:
        """Context with a new file, which gets its name at the end; raises `ConflictError`."""
        target = self.new_file(name)
        partial = temporary_sibling(target)
        try:
            with storage_errors(target), partial.open("x+b") as file:
                yield file
            with storage_errors(target):
                claim(partial, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()

    def _inside(self, folder: Path, name: str) -> Path:
        if not self._is_inside(folder, name):
            raise UnknownNameError(
                f"{name!r} is not a valid name; use at most 100 letters, digits, dots, dashes and "
                "underscores, beginning with a letter or digit"
            )
        return folder / name

    def _is_inside(self, folder: Path, name: str) -> bool:
        """Return whether the name is valid and is not a symbolic link to another place."""
        if not re.fullmatch(NAME_PATTERN.strip("^$"), name):
            return False
        return (folder / name).resolve() == folder.resolve() / name


def claim(partial: Path, target: Path) -> None:
    """Give a finished file its name; raises `ConflictError` if the name is taken."""
    try:
        # Unlike a rename, a hard link never replaces a file.
        os.link(partial, target)
    except OSError as error:
        if target.exists():
            raise ConflictError(
                f"another request has made the file {target.name!r}; choose another name"
            ) from error
        # The file system has no hard links.
        partial.rename(target)


def _marker(path: Path) -> Path | None:
    """Return the file that marks a folder as a run, a model, or a run that is being made."""
    for name in ("config.json", MANIFEST):
        if (path / name).is_file():
            return path / name
    # A run that a command line has just started holds only a lock.
    return path / LOCK if writer_of(path) is not None else None


def _changed(path: Path) -> float:
    """Return the modification time of a file, 0 if it has just been removed."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def open_workspace(root: Path) -> Workspace:
    """Return the workspace of a folder, which is created if needed; raises `ConfigError`."""
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is not a folder; name the folder that holds the runs")
    workspace = Workspace(root.resolve())
    workspace.prepare()
    return workspace
