"""Raises the share of run-length coded batches over the first part of a run."""

from bit_transformer.objectives.config import RunLengthConfig
from bit_transformer.objectives.run_length import RunLengthObjective
from bit_transformer.training.callbacks.base import Callback, RunningTrainer, StepRecord
from bit_transformer.training.schedule import cosine_ramp


class RunLengthRamp(Callback):
    """Half a cosine from 0 to the whole share; a function of the step, so it needs no state."""

    def __init__(self, objective: RunLengthObjective, config: RunLengthConfig) -> None:
        self._objective, self._ramp = objective, config.ramp

    def on_start(self, trainer: RunningTrainer) -> None:
        """Where the run begins or goes on."""
        self._set(trainer, trainer.progress.step)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """For the next step."""
        self._set(trainer, record.step)

    def _set(self, trainer: RunningTrainer, step: int) -> None:
        steps = max(1, round(self._ramp * trainer.config.steps))
        self._objective.reached = cosine_ramp(step, 0.0, 1.0, steps) if self._ramp else 1.0
