"""A local trackio project, viewed with `trackio show`."""

import importlib
from typing import Any

from bit_transformer.extras import import_extra
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RunningTrainer,
    StepRecord,
)

_PROJECT = "bit-transformer"


class TrackioWriter(Callback):
    """Logs what the metrics file logs; the run has the name of its folder.

    A run that goes on from an earlier step logs again from the first step that trackio does not
    have: the steps before are the same ones.
    """

    def __init__(self, run: str, config: dict[str, Any]) -> None:
        """Raises `MissingExtraError` where trackio is not installed."""
        self._trackio = import_extra("trackio", "trackio", extra="trackio", purpose="train.trackio")
        self._run, self._config, self._logged = run, config, 0

    def on_start(self, trainer: RunningTrainer) -> None:
        """Open the run, or go on with it."""
        goes_on = trainer.progress.step > 0
        self._logged = self._last_step() if goes_on else 0
        self._trackio.init(
            project=_PROJECT,
            name=self._run,
            config=self._config,
            # A new run is none of those that a folder of the same name had before.
            resume="allow" if goes_on else "never",
        )

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step."""
        values = {"loss": record.loss, "lr": record.lr, "gradient_norm": record.gradient_norm}
        self._log(values, record.step)

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation."""
        self._log({"held_out_bits_per_byte": record.bits_per_byte}, record.step)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Close the run."""
        self._trackio.finish()

    def _log(self, values: dict[str, float], step: int) -> None:
        if step > self._logged:
            self._trackio.log(values, step=step)

    def _last_step(self) -> int:
        """The last step that trackio has of the run."""
        storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
        return storage.get_last_step(_PROJECT, self._run) or 0
