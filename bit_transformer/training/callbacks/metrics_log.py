"""One JSON line per step and per evaluation, in `metrics.jsonl`.

When a recovery undoes steps, their records stay. Their kind becomes "abandoned", and "was" has the
former kind. The steps of all other records never decrease.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO

from bit_transformer.atomic import atomic_write_text, storage_errors
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
    TelemetryRecord,
)
from bit_transformer.training.run_folder import read_metrics


class MetricsLog(Callback):
    """Appends a line for each record. A resumed run first drops the lines after its checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def on_start(self, trainer: RunningTrainer) -> None:
        """Keep the lines up to the step from which the run continues."""
        step = trainer.progress.step
        kept = takewhile(lambda line: not _is_after(line, step), read_metrics(self._path))
        # A run that is resumed after its last step repeats only its final evaluation.
        ended = step >= trainer.config.steps
        self._rewrite(line for line in kept if not (ended and line.get("final") is True))

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step."""
        self._write({"kind": "step", **dataclasses.asdict(record)})

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation."""
        self._write({"kind": "evaluation", **dataclasses.asdict(record)})

    def on_telemetry(self, trainer: RunningTrainer, record: TelemetryRecord) -> None:
        """Log the metrics."""
        self._write({"kind": "telemetry", **dataclasses.asdict(record)})

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Mark the records of undone steps and log the recovery."""
        self.on_close(trainer)
        self._rewrite(
            {**line, "kind": "abandoned", "was": line["kind"]}
            if _is_after(line, record.step)
            else line
            for line in read_metrics(self._path)
        )
        self._write({"kind": "recovery", **dataclasses.asdict(record)})

    def on_close(self, trainer: RunningTrainer) -> None:
        """Close the file."""
        if self._file is not None:
            # Every line was flushed when it was written, so closing cannot lose data.
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _rewrite(self, records: Iterable[dict[str, Any]]) -> None:
        """Replace the file by these records and open it for appending."""
        atomic_write_text(self._path, "".join(map(_line, records)))
        with storage_errors(self._path):
            self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            with storage_errors(self._path):
                self._file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    """The record as a line of JSON. NaN and infinity become null, because JSON lacks them."""
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_after(record: dict[str, Any], step: int) -> bool:
    """Whether the record is of a later step, which is not abandoned yet."""
    return record.get("kind") not in ("abandoned", "recovery") and record["step"] > step
