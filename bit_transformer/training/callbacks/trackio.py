"""Logs to a local trackio project, which `trackio show` displays."""

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
    """Logs steps and evaluations under the name of the run folder.

    A run that continues from an earlier step repeats the same steps. Steps that trackio already has
    are not logged again.
    """

    def __init__(self, run: str, config: dict[str, Any]) -> None:
        """Raises `MissingExtraError` when trackio is not installed."""
        self._trackio = import_extra("trackio", "trackio", extra="trackio", purpose="train.trackio")
        self._run, self._config, self._logged = run, config, 0

    def on_start(self, trainer: RunningTrainer) -> None:
        """Open the run in trackio, or continue it."""
        resumed = trainer.progress.step > 0
        self._logged = self._last_step() if resumed else 0
        self._trackio.init(
            project=_PROJECT,
            name=self._run,
            config=self._config,
            # A new run must not continue an older one from a folder of the same name.
            resume="allow" if resumed else "never",
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
        """The last step of the run that trackio has."""
        storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
        return storage.get_last_step(_PROJECT, self._run) or 0
