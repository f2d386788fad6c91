"""What a run leaves on disk, and how it is found again.

config.json        every setting of the run
metrics.jsonl      one line per step, evaluation, reading and recovery
checkpoints/       step-00001000/ ..., `latest` names the newest whole one
telemetry.png      the course of the run
report.json        the result, once the run has ended
data/              streams (stdin, hf://) that had to be written down
.lock              held by whoever writes in the folder, see checkpoint/lock.py
"""

import dataclasses
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bit_transformer.checkpoint.atomic import atomic_write_json, storage_errors
from bit_transformer.checkpoint.format import MANIFEST
from bit_transformer.checkpoint.locate import local_folder
from bit_transformer.checkpoint.lock import sole_writer
from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.data.dataset import Dataset, open_dataset
from bit_transformer.data.sources import STDIN
from bit_transformer.data.spool import spooled_stdin
from bit_transformer.errors import (
    BitTransformerError,
    CheckpointNotFoundError,
    ConfigError,
    UsageError,
)
from bit_transformer.training.callbacks.metrics_log import read_metrics
from bit_transformer.training.config import RunConfig

CARRIED = "run"
"""Folder beside a checkpoint that was taken out of its run, with the run's settings and metrics."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    def __post_init__(self) -> None:
        # Users of the library give text.
        object.__setattr__(self, "path", Path(self.path))

    @property
    def checkpoints(self) -> CheckpointFolder:
        """Saved states by step."""
        return CheckpointFolder(self.path / "checkpoints")

    @property
    def metrics(self) -> Path:
        """Records of steps and evaluations."""
        return self.path / "metrics.jsonl"

    @property
    def picture(self) -> Path:
        """The course of the run as an image."""
        return self.path / "telemetry.png"

    @property
    def data(self) -> Path:
        """Where streamed sources are written down."""
        return self.path / "data"

    def exists(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "config.json").exists()

    def require_new(self) -> None:
        """Raise `UsageError` when a run is there already."""
        if self.exists():
            raise UsageError(
                f"{self.path} already holds a run; go on with it with --resume, or name another "
                "folder with --out"
            )

    def create(self, config: RunConfig) -> None:
        """Make the folder and record the settings; raises what `require_new` and `writing` do."""
        with self.writing():
            self.require_new()
            atomic_write_json(self.path / "config.json", config.to_dict())

    def go_on(self, config: RunConfig) -> None:
        """Replace the recorded settings by those that the run goes on with; it has no result yet.

        Raises what `writing` does.
        """
        with self.writing():
            atomic_write_json(self.path / "config.json", config.to_dict())
            with storage_errors(self.path):
                (self.path / "report.json").unlink(missing_ok=True)

    def writing(self) -> AbstractContextManager[None]:
        """Be the only one who writes in the folder, which is made where there is none.

        Raises `BusyError`, which says who writes there, and `StorageError`.
        """
        return sole_writer(self.path)

    def dataset(self, config: RunConfig) -> Dataset:
        """The data of the run; of one that has begun, standard input is what was read of it then.

        Raises what `open_dataset` does.
        """
        data, stdin = config.data, spooled_stdin(self.data)
        if self.exists() and stdin.is_file():
            sources = tuple(str(stdin) if one == STDIN else one for one in data.sources)
            data = dataclasses.replace(data, sources=sources)
        return open_dataset(data, window_bytes=config.window_bytes, spool=self.data)

    def config(self) -> RunConfig:
        """The recorded settings.

        Raises `CheckpointNotFoundError` where no run was started, `ConfigError` for settings that
        cannot be used.
        """
        try:
            sections = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointNotFoundError(
                f"{self.path} holds no run: its config.json cannot be read ({error.strerror}); "
                "name the folder that was given to --out"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{self.path}/config.json is no JSON: {error}") from error
        return RunConfig.from_dict(sections)

    def write_report(self, report: dict[str, Any]) -> None:
        """Record the result of the run; raises what `writing` does."""
        with self.writing():
            atomic_write_json(self.path / "report.json", report)

    def report(self) -> dict[str, Any] | None:
        """The recorded result, None while the run has not ended."""
        path = self.path / "report.json"
        if not path.exists():
            return None
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report

    def summary(self) -> dict[str, Any]:
        """One line about the run: name, steps done and planned, newest held-out bits per byte.

        Raises what `config` does, and `ValueError` or `LookupError` for records that are damaged.
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
        """`summary` with a `problem`, None or what is wrong with the folder; it never raises."""
        nothing = {"step": None, "steps": None, "bits_per_byte": None, "ended": False}
        try:
            return {**self.summary(), "problem": None}
        except BitTransformerError as error:
            problem = str(error)
        except (OSError, ValueError, LookupError, TypeError) as error:
            problem = f"its records cannot be read ({type(error).__name__}: {error})"
        return {"run": str(self.path), **nothing, "problem": problem}

    def active_at(self) -> float:
        """When something was last written of the run, as Unix time; 0 when nothing can be found."""
        names = ("config.json", "metrics.jsonl", "report.json", "checkpoints")
        return max(map(_changed, (self.path / name for name in names)))


def run_of(path: str | Path) -> RunFolder:
    """The run that is in a folder, or that a checkpoint carries; `path` may be a hub id.

    Raises what `local_folder` does; whether there is a run, `RunFolder.config` finds out.
    """
    folder = local_folder(Path(path))
    return RunFolder(folder / CARRIED if (folder / MANIFEST).is_file() else folder)


def find_runs(root: Path) -> list[RunFolder]:
    """The runs directly inside `root`, oldest first."""
    configs = sorted(root.glob("*/config.json"), key=_changed)
    return [RunFolder(path.parent) for path in configs]


def newest_run(root: Path) -> RunFolder:
    """The run directly inside `root` that was written to last; raises `CheckpointNotFoundError`."""
    runs = find_runs(root)
    if not runs:
        raise CheckpointNotFoundError(
            f"there is no run in {root} to go on with; name a run folder with --out"
        )
    return max(runs, key=RunFolder.active_at)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
