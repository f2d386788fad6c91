"""Shows progress on stderr: a bar on a terminal, and a line every 15 seconds elsewhere.

The time left includes the final evaluation and the gate's calibration.
"""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
)

_LINE_SECONDS = 15.0
_SMOOTHING = 0.95
_FORECAST_AFTER = 5
"""Steps of this process before the forecast, because the first steps are slower than the others."""
_MIN_FORECAST = 20.0
"""A forecast is printed if it is at least this many seconds."""


class ProgressBar(Callback):
    """Shows steps, speed, smoothed bits per byte and time left.

    `bytes_at_end` is the work after the last step. It counts held-out bytes: an evaluation of that
    many bytes takes as long as the final evaluation and the gate's calibration together.
    """

    def __init__(self, bytes_at_end: float = 0.0) -> None:
        self._bytes_at_end, self._reading_rate = bytes_at_end, 0.0
        self._console = Console(file=sys.stderr)
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._loss, self._weight, self._held_out = 0.0, 0.0, ""
        self._skipping = False
        self._printed_at = self._stepped_at = time.monotonic()
        self._first: StepRecord | None = None
        self._forecast = False

    def on_start(self, trainer: RunningTrainer) -> None:
        """Show the bar at the first step of this process."""
        self._task = self._bar.add_task(
            "", total=trainer.config.steps, completed=trainer.progress.step, status=""
        )
        self._bar.start()

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Update the bar or print a line."""
        self._first, self._skipping = self._first or record, False
        self._stepped_at = time.monotonic()
        left = self._seconds_left(trainer, record)
        status = f"{self._smoothed(record.loss):.3f} bits/byte{self._held_out}"
        status += f"  {self._speed(record)}  {in_words(left)} left"
        self._bar.update(self._task, completed=record.step, status=status)
        if not self._forecast and record.step - self._first.step >= _FORECAST_AFTER:
            self._print_forecast(trainer, left)
        due = time.monotonic() - self._printed_at >= _LINE_SECONDS
        if due and not self._console.is_terminal:
            self._printed_at = time.monotonic()
            self._print(f"step {record.step}/{trainer.config.steps}  {status}")

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Remember the newest held-out result and the speed of the evaluation."""
        seconds = time.monotonic() - self._stepped_at
        if seconds > 0:
            self._reading_rate = record.data_bytes / seconds
        self._held_out = f"  held-out {record.bits_per_byte:.3f}"

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Print the recovery. Consecutive skips are printed once."""
        self._bar.update(self._task, completed=record.step)
        done = "data skipped"
        if record.action == "return":
            done = f"back to step {record.step}, learning rates x {record.rate_factor:.3g}"
            self._loss, self._weight = 0.0, 0.0
        elif self._skipping:
            return
        self._skipping = record.action == "skip"
        line = f"step {record.went_bad}: {record.reason}; {done}"
        self._print(line)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Restore the terminal."""
        self._bar.stop()

    def _smoothed(self, loss: float) -> float:
        """The exponential moving average of the losses, with bias correction."""
        self._loss += (1 - _SMOOTHING) * (loss - self._loss)
        self._weight += (1 - _SMOOTHING) * (1 - self._weight)
        return self._loss / self._weight

    def _speed(self, record: StepRecord) -> str:
        assert self._first is not None
        seconds = record.seconds - self._first.seconds
        if seconds <= 0:
            return ""
        return f"{(record.data_bytes - self._first.data_bytes) / seconds / 1000:.1f} kB/s"

    def _print_forecast(self, trainer: RunningTrainer, left: float) -> None:
        self._forecast = True
        if left >= _MIN_FORECAST:
            after = in_words(self._seconds_at_end(trainer))
            steps = trainer.config.steps
            self._print(
                f"this takes about {in_words(left)} here: {steps} steps, then {after} for the "
                "last evaluation and the gate"
            )

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _seconds_left(self, trainer: RunningTrainer, record: StepRecord) -> float:
        steps = (trainer.config.steps - record.step) * self._seconds_a_step(record)
        return steps + self._seconds_at_end(trainer)

    def _seconds_a_step(self, record: StepRecord) -> float:
        """Seconds per step in this process, without its first step, which loads and compiles."""
        assert self._first is not None
        if record.step == self._first.step:
            return record.seconds / record.step
        return (record.seconds - self._first.seconds) / (record.step - self._first.step)

    def _seconds_at_end(self, trainer: RunningTrainer) -> float:
        """Seconds after the last step, from the speed of the evaluations so far.

        Before the first evaluation, the training speed stands in for it. An evaluation has one
        pass instead of three, but its windows overlap by half."""
        rate = self._reading_rate
        if not rate and trainer.progress.seconds:
            rate = trainer.progress.data_bytes / trainer.progress.seconds
        return self._bytes_at_end / rate if rate else 0.0


def in_words(seconds: float) -> str:
    """A duration as text: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
