"""Ends a run that no longer improves."""

import math
from typing import Any

from bit_transformer.training.callbacks.base import Callback, EvaluationRecord, RunningTrainer


class EarlyStop(Callback):
    """Asks for a stop after `patience` evaluations in a row without a new best."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best, self._waited = math.inf, 0

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Count evaluations since the best one; the final one, on other bytes, does not count."""
        if record.final:
            return
        improved = record.bits_per_byte < self._best
        self._best = min(self._best, record.bits_per_byte)
        self._waited = 0 if improved else self._waited + 1
        if self._waited >= self._patience:
            trainer.request_stop()

    def state_dict(self) -> dict[str, Any]:
        """The best result and the evaluations since."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on waiting."""
        self._best, self._waited = state.get("best", math.inf), state.get("waited", 0)
