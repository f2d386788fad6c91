"""A bar on a terminal, a line now and then elsewhere; both on stderr."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
)

_LINE_SECONDS = 15.0
_SMOOTHING = 0.95


class ProgressBar(Callback):
    """Steps, speed, bits per byte (smoothed) and time left."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._loss, self._weight, self._held_out = 0.0, 0.0, ""
        self._skipping = False
        self._spoke = time.monotonic()
        self._first: StepRecord | None = None

    def on_start(self, trainer: RunningTrainer) -> None:
        """Show the bar where the run begins or goes on."""
        self._task = self._bar.add_task(
            "", total=trainer.config.steps, completed=trainer.progress.step, status=""
        )
        self._bar.start()

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Move on."""
        self._first, self._skipping = self._first or record, False
        status = (
            f"{self._smoothed(record.loss):.3f} bits/byte{self._held_out}  {self._speed(record)}"
        )
        self._bar.update(self._task, completed=record.step, status=status)
        quiet = time.monotonic() - self._spoke < _LINE_SECONDS
        if not self._console.is_terminal and not quiet:
            self._spoke = time.monotonic()
            left = self._seconds_left(trainer, record)
            line = f"step {record.step}/{trainer.config.steps}  {status}  {left:.0f} s left"
            self._console.print(line, highlight=False, soft_wrap=True)

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Remember the newest held-out result for the status."""
        self._held_out = f"  held-out {record.bits_per_byte:.3f}"

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Say so; once for data that is skipped in a row."""
        self._bar.update(self._task, completed=record.step)
        done = "data skipped"
        if record.action == "return":
            done = f"back to step {record.step}, learning rates x {record.rate_factor:.3g}"
            self._loss, self._weight = 0.0, 0.0
        elif self._skipping:
            return
        self._skipping = record.action == "skip"
        line = f"step {record.went_bad}: {record.reason}; {done}"
        self._console.print(line, highlight=False, soft_wrap=True)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()

    def _smoothed(self, loss: float) -> float:
        """Exponential mean of the losses so far, as if there had been none before the first."""
        self._loss += (1 - _SMOOTHING) * (loss - self._loss)
        self._weight += (1 - _SMOOTHING) * (1 - self._weight)
        return self._loss / self._weight

    def _speed(self, record: StepRecord) -> str:
        assert self._first is not None
        seconds = record.seconds - self._first.seconds
        if seconds <= 0:
            return ""
        return f"{(record.data_bytes - self._first.data_bytes) / seconds / 1000:.1f} kB/s"

    def _seconds_left(self, trainer: RunningTrainer, record: StepRecord) -> float:
        return record.seconds / record.step * (trainer.config.steps - record.step)
