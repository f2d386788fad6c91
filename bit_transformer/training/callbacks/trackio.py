"""A local trackio project, viewed with `trackio show`."""

import importlib
from typing import Any

from bit_transformer.errors import MissingExtraError
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RunningTrainer,
    StepRecord,
)


class TrackioWriter(Callback):
    """Logs what the metrics file logs; the run has the name of its folder."""

    def __init__(self, run: str, config: dict[str, Any]) -> None:
        """Raises `MissingExtraError` where trackio is not installed."""
        try:
            self._trackio = importlib.import_module("trackio")
        except ImportError as error:
            raise MissingExtraError(
                "train.trackio needs trackio; install bit-transformer[trackio]"
            ) from error
        self._run, self._config = run, config

    def on_start(self, trainer: RunningTrainer) -> None:
        """Open the run, or go on with it."""
        self._trackio.init(
            project="bit-transformer", name=self._run, config=self._config, resume="allow"
        )

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step."""
        values = {"loss": record.loss, "lr": record.lr, "gradient_norm": record.gradient_norm}
        self._trackio.log(values, step=record.step)

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation."""
        self._trackio.log({"held_out_bits_per_byte": record.bits_per_byte}, step=record.step)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Close the run."""
        self._trackio.finish()
