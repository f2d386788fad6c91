"""One JSON line per step and per evaluation, in `metrics.jsonl`."""

import dataclasses
import json
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
        self._open_after(trainer.progress.step)

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Drop the lines of the steps that will be done anew; log the recovery."""
        self.on_close(trainer)
        self._open_after(record.step)
        self._write({"kind": "recovery", **dataclasses.asdict(record)})

    def _open_after(self, step: int) -> None:
        kept = [line for line in read_metrics(self._path) if line["step"] <= step]
        lines = [json.dumps(line) + "\n" for line in kept]
        atomic_write_text(self._path, "".join(lines))
        self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step."""
        self._write({"kind": "step", **dataclasses.asdict(record)})

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation."""
        self._write({"kind": "evaluation", **dataclasses.asdict(record)})

    def on_telemetry(self, trainer: RunningTrainer, record: TelemetryRecord) -> None:
        """Log the readings."""
        self._write({"kind": "telemetry", **dataclasses.asdict(record)})

    def on_close(self, trainer: RunningTrainer) -> None:
        """Nothing more is to come."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            with storage_errors(self._path):
                self._file.write(json.dumps(record) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
