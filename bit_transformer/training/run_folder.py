"""The folder of a run, and how runs are found.

config.json        every setting of the run
metrics.jsonl      one line per step, evaluation, telemetry record and recovery
checkpoints/       step-00001000/ ..., where `latest` names the newest complete one
telemetry.png      curves of the run
report.json        the result, after the end of the run
data/              copies of streamed sources (stdin, hf://)
data.bin           the bytes that were given to `fit`
.lock              held by the process that writes in the folder, see checkpoint/lock.py
"""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bit_transformer.atomic import atomic_write_json, storage_errors
from bit_transformer.checkpoint.format import MANIFEST, read_manifest
from bit_transformer.checkpoint.locate import local_folder, locate_checkpoint
from bit_transformer.checkpoint.lock import sole_writer
from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.data.dataset import Dataset, open_dataset
from bit_transformer.data.sources import STDIN
from bit_transformer.data.spool import spooled_stdin
from bit_transformer.errors import (
    BitTransformerError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ConfigError,
    UsageError,
)
from bit_transformer.training.config import RunConfig

CARRIED = "run"
"""Folder inside a checkpoint that was copied out of its run. It has the settings and metrics."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    def __post_init__(self) -> None:
        # Users of the library may pass a str.
        object.__setattr__(self, "path", Path(self.path))

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The folder of checkpoints by step."""
        return CheckpointFolder(self.path / "checkpoints")

    @property
    def metrics(self) -> Path:
        """The file of records of steps and evaluations."""
        return self.path / "metrics.jsonl"

    @property
    def picture(self) -> Path:
        """The image with the curves of the run."""
        return self.path / "telemetry.png"

    @property
    def data(self) -> Path:
        """The folder with copies of streamed sources."""
        return self.path / "data"

    @property
    def given_bytes(self) -> Path:
        """The file with the bytes that were given to `fit`."""
        return self.path / "data.bin"

    def exists(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "config.json").exists()

    def require_new(self) -> None:
        """Raise `UsageError` when the folder already holds a run."""
        if self.exists():
            raise UsageError(
                f"{self.path} already holds a run; resume it with --resume, or name another "
                "folder with --out"
            )

    def record_new(self, config: RunConfig) -> None:
        """Record the settings of a new run.

        Raises the errors of `require_new` and `writing`.
        """
        with self.writing():
            self.require_new()
            atomic_write_json(self.path / "config.json", config.to_dict())

    def resume(self, config: RunConfig) -> None:
        """Record the settings of the resumed run and remove the report of its former end.

        Raises the errors of `writing`.
        """
        with self.writing():
            atomic_write_json(self.path / "config.json", config.to_dict())
            with storage_errors(self.path):
                (self.path / "report.json").unlink(missing_ok=True)

    def writing(self) -> AbstractContextManager[None]:
        """Context that holds the folder's lock, see `sole_writer`. It creates a missing folder.

        Raises `BusyError`, which names the present writer, and `StorageError`.
        """
        return sole_writer(self.path)

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Context that holds the folder's lock while a run starts and trains.

        If the run does not begin, the copies of data that were made meanwhile are removed. Raises
        the errors of `writing`.
        """
        with self.writing():
            had_data, before = self.data.exists(), self._copies()
            try:
                yield
            finally:
                if not self.exists():
                    self._remove(self._copies() - before, folder=not had_data)

    def _remove(self, copies: set[Path], *, folder: bool) -> None:
        """Remove copies of data, and with `folder` the folder that held them if it is empty."""
        with suppress(OSError):
            for copy in copies:
                copy.unlink()
            if folder:
                self.data.rmdir()

    def _copies(self) -> set[Path]:
        return {path for path in (self.given_bytes, *self.data.glob("*")) if path.exists()}

    def dataset(self, config: RunConfig) -> Dataset:
        """The data of the run.

        A resumed run uses the copy of standard input that it has made at its start, because a
        stream cannot be read twice. Raises the errors of `open_dataset`.
        """
        data, stdin = config.data, spooled_stdin(self.data)
        if self.exists() and stdin.is_file():
            sources = tuple(str(stdin) if one == STDIN else one for one in data.sources)
            data = dataclasses.replace(data, sources=sources)
        return open_dataset(data, window_bytes=config.window_bytes, spool=self.data)

    def config(self) -> RunConfig:
        """The recorded settings.

        Raises `CheckpointNotFoundError` when the folder does not hold a run, and `ConfigError` for
        invalid settings.
        """
        try:
            sections = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointNotFoundError(
                f"{self.path} holds no run: config.json cannot be read ({error.strerror}); name "
                "the folder that was given to --out"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{self.path}/config.json is not valid JSON: {error}") from error
        return RunConfig.from_dict(sections)

    def write_report(self, report: dict[str, Any]) -> None:
        """Write the report of the run. Raises the errors of `writing`."""
        with self.writing():
            atomic_write_json(self.path / "report.json", report)

    def report(self) -> dict[str, Any] | None:
        """The report of the run. None until the run has ended."""
        path = self.path / "report.json"
        if not path.exists():
            return None
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report

    def summary(self) -> dict[str, Any]:
        """The run's name, steps done and planned, and newest held-out bits per byte.

        Raises the errors of `config`, and `ValueError` or `LookupError` for damaged records.
        """
        records = read_metrics(self.metrics)
        held_out = [r["bits_per_byte"] for r in records if r["kind"] == "evaluation"]
        steps = [record["step"] for record in records if record["kind"] != "abandoned"]
        return {
            "run": str(self.path),
            "step": max(steps, default=0),
            "steps": self.config().train.steps,
            "bits_per_byte": held_out[-1] if held_out else None,
            "ended": self.report() is not None,
        }

    def summary_or_problem(self) -> dict[str, Any]:
        """`summary` with a `problem`: None, or the fault of the folder. Does not raise."""
        nothing = {"step": None, "steps": None, "bits_per_byte": None, "ended": False}
        try:
            return {**self.summary(), "problem": None}
        except BitTransformerError as error:
            problem = str(error)
        except (OSError, ValueError, LookupError, TypeError) as error:
            problem = f"the run's records cannot be read ({type(error).__name__}: {error})"
        return {"run": str(self.path), **nothing, "problem": problem}

    def active_at(self) -> float:
        """Unix time of the last write to the run's files. 0 when there are none."""
        names = ("config.json", "metrics.jsonl", "report.json", "checkpoints")
        return max(map(_modified_at, (self.path / name for name in names)))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file. Reading ends at the first damaged line, such as a last line
    that a kill has cut short."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict):
            break
        records.append(record)
    return records


def run_of(path: str | Path) -> RunFolder:
    """The run in a folder, or the run inside a checkpoint. `path` may be a hub id.

    Does not check that there is a run; `RunFolder.config` does. Raises the errors of
    `local_folder`.
    """
    folder = local_folder(Path(path))
    return RunFolder(folder / CARRIED if (folder / MANIFEST).is_file() else folder)


def data_of(path: str | Path) -> Dataset:
    """The data that the run of `path` was trained on; see `run_of`.

    Raises `CheckpointMismatchError` when the data has changed since, because its held-out bytes may
    then be bytes that the model was trained on. Raises the errors of `RunFolder.config`,
    `RunFolder.dataset` and `locate_checkpoint`.
    """
    run = run_of(path)
    dataset = run.dataset(run.config())
    trained_on = read_manifest(locate_checkpoint(path))["metadata"].get("data")
    if trained_on not in (None, dataset.corpus.fingerprint()):
        raise CheckpointMismatchError(
            f"{path} was trained on other bytes than its data has now, so none of them is surely "
            "held out; restore the data or name files"
        )
    return dataset


def find_runs(root: Path) -> list[RunFolder]:
    """The runs directly inside `root`, oldest first."""
    configs = sorted(root.glob("*/config.json"), key=_modified_at)
    return [RunFolder(path.parent) for path in configs]


def newest_run(root: Path) -> RunFolder:
    """The run directly inside `root` that was written last. Raises `CheckpointNotFoundError`."""
    runs = find_runs(root)
    if not runs:
        raise CheckpointNotFoundError(
            f"there is no run in {root} to resume; name a run folder with --out"
        )
    return max(runs, key=RunFolder.active_at)


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
