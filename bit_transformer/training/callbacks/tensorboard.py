"""TensorBoard event files in the run folder."""

import importlib
from pathlib import Path

from bit_transformer.errors import MissingExtraError
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RunningTrainer,
    StepRecord,
)


class TensorBoardWriter(Callback):
    """Scalars by step: loss, learning rate, gradient norm, held-out bits per byte."""

    def __init__(self, folder: Path) -> None:
        """Raises `MissingExtraError` where TensorBoard is not installed."""
        try:
            module = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise MissingExtraError(
                "train.tensorboard needs TensorBoard; install bit-transformer[tensorboard]"
            ) from error
        self._writer = module.SummaryWriter(str(folder))

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step."""
        for name in ("loss", "lr", "gradient_norm"):
            self._writer.add_scalar(f"train/{name}", getattr(record, name), record.step)

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation."""
        self._writer.add_scalar("held_out/bits_per_byte", record.bits_per_byte, record.step)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Flush and close."""
        self._writer.close()
