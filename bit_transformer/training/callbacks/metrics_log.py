"""One JSON line per step and per evaluation, in `metrics.jsonl`.

Records of a step that a recovery went back over stay, with "abandoned" as their kind and what they
were as "was"; of all others the steps never decrease.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO

from bit_transformer.checkpoint.atomic import atomic_write_text, storage_errors
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
    TelemetryRecord,
)


class MetricsLog(Callback):
    """Appends records as they come; a resumed run drops those after its checkpoint first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def on_start(self, trainer: RunningTrainer) -> None:
        """Keep the lines up to the step that the run goes on from."""
        step = trainer.progress.step
        kept = takewhile(lambda line: not _is_after(line, step), read_metrics(self._path))
        # A run without steps left ends once more, and evaluates once more.
        again = step >= trainer.config.steps
        self._begin(line for line in kept if not (again and line.get("final") is True))

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step."""
        self._write({"kind": "step", **dataclasses.asdict(record)})

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation."""
        self._write({"kind": "evaluation", **dataclasses.asdict(record)})

    def on_telemetry(self, trainer: RunningTrainer, record: TelemetryRecord) -> None:
        """Log the readings."""
        self._write({"kind": "telemetry", **dataclasses.asdict(record)})

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Mark what was logged of steps that will be done again; log the recovery."""
        self.on_close(trainer)
        self._begin(
            {**line, "kind": "abandoned", "was": line["kind"]}
            if _is_after(line, record.step)
            else line
            for line in read_metrics(self._path)
        )
        self._write({"kind": "recovery", **dataclasses.asdict(record)})

    def on_close(self, trainer: RunningTrainer) -> None:
        """Nothing more is to come."""
        if self._file is not None:
            # Every line was written out as it came; a full disk was told of then.
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _begin(self, records: Iterable[dict[str, Any]]) -> None:
        """Go on after these records."""
        atomic_write_text(self._path, "".join(map(_line, records)))
        with storage_errors(self._path):
            self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            with storage_errors(self._path):
                self._file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    """The record as JSON, which has no word for NaN and infinity: they are null."""
    return json.dumps(_numbers(record), allow_nan=False) + "\n"


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_after(record: dict[str, Any], step: int) -> bool:
    """Whether it speaks of a later step of the run as it now stands."""
    return record.get("kind") not in ("abandoned", "recovery") and record["step"] > step


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file up to the first line that is none, as a last line cut short by
    a kill."""
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
