"""TensorBoard event files in the run folder."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bit_transformer.checkpoint.atomic import atomic_file, storage_errors
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
    """Scalars by step: loss, learning rate, gradient norm, held-out bits per byte.

    Where the run goes on from an earlier step, events of later steps are taken out of the files:
    each step is there once.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `MissingExtraError` where TensorBoard is not installed."""
        self._module = import_extra(
            *("torch.utils.tensorboard", "TensorBoard"),
            extra="tensorboard",
            purpose="train.tensorboard",
        )
        self._folder = folder
        self._writer: Any = None

    def on_start(self, trainer: RunningTrainer) -> None:
        """Go on after the step that the run goes on from."""
        self._go_on_after(
            trainer.progress.step, again=trainer.progress.step >= trainer.config.steps
        )

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
        """Take out the steps that the run went back over."""
        if record.action == "return":
            self.on_close(trainer)
            self._go_on_after(record.step, again=False)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _go_on_after(self, step: int, *, again: bool) -> None:
        """`again`: the run has no step left, and its last evaluation comes once more."""

        def stays(event: Any) -> bool:
            tags = [value.tag for value in event.summary.value]
            return event.step < step + 1 and not (
                again and _HELD_OUT in tags and event.step == step
            )

        for path in sorted(self._folder.glob("events.*")):
            _filter_events(path, stays)
        with storage_errors(self._folder):
            self._writer = self._module.SummaryWriter(str(self._folder))


def _filter_events(path: Path, stays: Callable[[Any], bool]) -> None:
    """Rewrite an event file without the events that do not stay, up to where a kill has cut it."""
    module = importlib.import_module("tensorboard.summary.writer.record_writer")
    kept = [raw for raw, event in _events(path) if stays(event)]
    with atomic_file(path) as file:
        writer = module.RecordWriter(file)
        for raw in kept:
            writer.write(raw)


def _events(path: Path) -> Iterator[tuple[bytes, Any]]:
    loader = importlib.import_module("tensorboard.backend.event_processing.event_file_loader")
    protocol = importlib.import_module("tensorboard.compat.proto.event_pb2")
    for raw in loader.RawEventFileLoader(str(path)).Load():
        yield raw, protocol.Event.FromString(raw)
