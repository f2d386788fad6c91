"""Bits per byte on held-out data, along the way on a sample and at the end on all of it."""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import UInt8

from bit_transformer.inference.score import score_bytes
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RunningTrainer,
    StepRecord,
)

HeldOut = Callable[[int | None], Iterable[UInt8[np.ndarray, " n"]]]
"""Held-out regions, all of them or a sample of so many bytes."""


class Evaluation(Callback):
    """Scores held-out data with the weights that would be saved."""

    def __init__(self, held_out: HeldOut, every: int, sample_bytes: int) -> None:
        self._held_out, self._every, self._sample_bytes = held_out, every, sample_bytes

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Evaluate on the sample when it is time and the end is not near."""
        if self._every and record.step % self._every == 0 and record.step < trainer.config.steps:
            self._evaluate(trainer, self._sample_bytes)

    def on_end(self, trainer: RunningTrainer) -> None:
        """Evaluate on all held-out data."""
        self._evaluate(trainer, None)

    def _evaluate(self, trainer: RunningTrainer, limit: int | None) -> None:
        surprisal, data_bytes = 0.0, 0
        trainer.network.eval()
        with trainer.average.applied():
            for region in self._held_out(limit):
                score = score_bytes(trainer.network, region)
                surprisal += float(score.surprisal.sum(dtype=np.float64))
                data_bytes += len(region)
        trainer.network.train()
        if data_bytes:
            step, mean = trainer.progress.step, surprisal / data_bytes
            record = EvaluationRecord(step, mean, data_bytes, final=limit is None)
            trainer.emit("on_evaluation", record)
