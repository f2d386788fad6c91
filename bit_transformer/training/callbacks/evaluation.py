"""Bits per byte on held-out data, along the way on a sample and at the end on all of it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bit_transformer.inference.score import stream_surprisal
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RunningTrainer,
    StepRecord,
)
from bit_transformer.waiting import waiting

HeldOut = Callable[[int | None], Iterable[UInt8[np.ndarray, " n"]]]
"""Held-out regions, all of them or a sample of so many bytes."""


class Evaluation(Callback):
    """Scores held-out data with the weights that would be saved.

    An evaluation that an interruption breaks off is made up for when the run goes on, so that a
    resumed run has the evaluations of an undisturbed one.
    """

    def __init__(self, held_out: HeldOut, every: int, sample_bytes: int) -> None:
        self._held_out, self._every, self._sample_bytes = held_out, every, sample_bytes
        self._due = False

    def on_start(self, trainer: RunningTrainer) -> None:
        """Make up for the evaluation that was broken off."""
        if self._due:
            self._evaluate(trainer, self._sample_bytes)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Evaluate on the sample when it is time and the end is not near."""
        if self._every and record.step % self._every == 0 and record.step < trainer.config.steps:
            self._evaluate(trainer, self._sample_bytes)

    def on_end(self, trainer: RunningTrainer) -> None:
        """Evaluate on all held-out data."""
        self._evaluate(trainer, None)

    def _evaluate(self, trainer: RunningTrainer, limit: int | None) -> None:
        # The last evaluation comes again by itself: the run that goes on ends again.
        self._due = limit is not None
        surprisal, data_bytes = 0.0, 0
        trainer.network.eval()
        held_out = "a sample of the" if limit is not None else "all"
        with waiting(f"evaluating on {held_out} held-out data"), trainer.average.applied():
            for found in self._surprisal(trainer, limit):
                surprisal += float(found.sum(dtype=np.float64))
                data_bytes += len(found)
        trainer.network.train()
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
        """Surprisal of each held-out byte, a stretch at a time, until the run is interrupted."""
        for region in self._held_out(limit):
            if trainer.interrupted:
                return
            for found in stream_surprisal(trainer.network, [region]):
                yield found
                if trainer.interrupted:
                    return

    def state_dict(self) -> dict[str, Any]:
        """Whether an evaluation is to be made up for."""
        return {"due": self._due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember it."""
        self._due = state.get("due", False)
