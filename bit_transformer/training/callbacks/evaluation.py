"""Evaluation on held-out data, on a sample during the run and on all data at its end, and early
stopping."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bit_transformer.model.transformer import evaluating
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RunningTrainer,
    StepRecord,
)
from bit_transformer.waiting import waiting

HeldOut = Callable[[int | None], Iterable[UInt8[np.ndarray, " n"]]]
"""Returns the held-out regions: for None all of them, for a number a sample of so many bytes."""


class Evaluation(Callback):
    """Evaluates the objective on held-out data, with the averaged weights if the run averages.

    An interrupted evaluation is repeated when the run is resumed, so that a resumed run has the
    same evaluations as an uninterrupted one.
    """

    name = "evaluation"
    every_rank = True

    def __init__(self, held_out: HeldOut, every: int, sample_bytes: int) -> None:
        self._held_out, self._every, self._sample_bytes = held_out, every, sample_bytes
        self._due = False

    def on_start(self, trainer: RunningTrainer) -> None:
        """Repeat an interrupted evaluation."""
        if self._due:
            self._evaluate(trainer, self._sample_bytes)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Evaluate the sample when it is due, except after the last step."""
        if self._every and record.step % self._every == 0 and record.step < trainer.config.steps:
            self._evaluate(trainer, self._sample_bytes)

    def on_end(self, trainer: RunningTrainer) -> None:
        """Evaluate all held-out data."""
        self._evaluate(trainer, None)

    def _evaluate(self, trainer: RunningTrainer, limit: int | None) -> None:
        # The final evaluation is not marked as due, because a resumed run reaches its end again.
        self._due = limit is not None
        surprisal, data_bytes = 0.0, 0
        held_out = "a sample of the" if limit is not None else "all"
        with (
            waiting(f"evaluating on {held_out} held-out data"),
            evaluating(trainer.network),
            trainer.average.applied(),
        ):
            for found in self._surprisal(trainer, limit):
                surprisal += float(found.sum(dtype=np.float64))
                data_bytes += len(found)
        if trainer.interrupted:
            return
        self._due = False
        if data_bytes:
            step, mean = trainer.progress.step, surprisal / data_bytes
            record = EvaluationRecord(step, mean, data_bytes, final=limit is None)
            trainer.emit("on_evaluation", record)

    def _surprisal(
        self, trainer: RunningTrainer, limit: int | None
    ) -> Iterator[Float[np.ndarray, " n"]]:
        """Yield the cost of each held-out byte, until the run is interrupted."""
        for region in self._held_out(limit):
            if trainer.interrupted:
                return
            for found in trainer.objective.evaluate(trainer.network, [region]):
                yield found
                if trainer.interrupted:
                    return

    def state_dict(self) -> dict[str, Any]:
        """Whether an evaluation has to be repeated."""
        return {"due": self._due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a value of `state_dict`."""
        self._due = state.get("due", False)


class EarlyStop(Callback):
    """Requests a stop after `patience` evaluations in a row without a new best."""

    name = "early_stop"
    every_rank = True

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best, self._waited = math.inf, 0

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Count evaluations since the best one. The final one is of other bytes and is ignored."""
        if record.final:
            return
        improved = record.bits_per_byte < self._best
        self._best = min(self._best, record.bits_per_byte)
        self._waited = 0 if improved else self._waited + 1
        if self._waited >= self._patience:
            trainer.request_stop()

    def state_dict(self) -> dict[str, Any]:
        """The best result and the number of evaluations since."""
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a value of `state_dict`."""
        self._best, self._waited = state.get("best", math.inf), state.get("waited", 0)
