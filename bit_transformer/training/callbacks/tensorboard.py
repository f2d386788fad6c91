"""Writes TensorBoard event files into the run folder."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bit_transformer.atomic import atomic_file, storage_errors
from bit_transformer.extras import import_extra
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
)

_HELD_OUT = "held_out/bits_per_byte"


class TensorBoardWriter(Callback):
    """Writes loss, learning rate, gradient norm and held-out bits per byte by step.

    When a run continues from an earlier step, the events of later steps are removed from the
    files, so that each step is in them once.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `MissingExtraError` when TensorBoard is not installed."""
        self._module = import_extra(
            *("torch.utils.tensorboard", "TensorBoard"),
            extra="tensorboard",
            purpose="train.tensorboard",
        )
        self._folder = folder
        self._writer: Any = None

    def on_start(self, trainer: RunningTrainer) -> None:
        """Keep the events up to the step from which the run continues."""
        step = trainer.progress.step
        self._continue_after(step, ended=step >= trainer.config.steps)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step."""
        with storage_errors(self._folder):
            for name in ("loss", "lr", "gradient_norm"):
                self._writer.add_scalar(f"train/{name}", getattr(record, name), record.step)

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation."""
        with storage_errors(self._folder):
            self._writer.add_scalar(_HELD_OUT, record.bits_per_byte, record.step)

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Remove the events of undone steps."""
        if record.action == "return":
            self.on_close(trainer)
            self._continue_after(record.step, ended=False)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _continue_after(self, step: int, *, ended: bool) -> None:
        """Remove later events. A run that had `ended` also repeats its final evaluation."""

        def keep(event: Any) -> bool:
            tags = [value.tag for value in event.summary.value]
            return event.step < step + 1 and not (
                ended and _HELD_OUT in tags and event.step == step
            )

        for path in sorted(self._folder.glob("events.*")):
            _filter_events(path, keep)
        with storage_errors(self._folder):
            self._writer = self._module.SummaryWriter(str(self._folder))


def _filter_events(path: Path, keep: Callable[[Any], bool]) -> None:
    """Rewrite an event file with the events to keep. An event that a kill cut short is dropped."""
    module = importlib.import_module("tensorboard.summary.writer.record_writer")
    kept = [raw for raw, event in _events(path) if keep(event)]
    with atomic_file(path) as file:
        writer = module.RecordWriter(file)
        for raw in kept:
            writer.write(raw)


def _events(path: Path) -> Iterator[tuple[bytes, Any]]:
    loader = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
    protocol = importlib.import_module("tensorboard.compat.proto.event_pb2")
    for raw in loader.RawEventFileLoader(str(path)).Load():
        yield raw, protocol.Event.FromString(raw)
