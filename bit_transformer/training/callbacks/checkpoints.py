"""Saves the whole state of a run, rotates old ones away, keeps the best."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.errors import NonFiniteLossError
from bit_transformer.quantization import settings_of
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
)


class Checkpoints(Callback):
    """Saves every so many steps, when a stop or a checkpoint was asked for, and at the end.

    The newest `keep` checkpoints stay, and beside them the one nearest to the best evaluation.
    """

    def __init__(
        self, folder: CheckpointFolder, every: int, keep: int, identity: dict[str, Any]
    ) -> None:
        """`identity` goes into the metadata of each: what a resumed run has to have in common."""
        self._folder, self._every, self._keep, self._identity = folder, every, keep, identity
        self._best, self._best_step = math.inf, 0
        self._held_out: float | None = None
        self._saved: int | None = None
        """Step whose whole state is saved; None after it has gone on."""

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Remember the best; only evaluations of the same sample compare."""
        self._held_out = record.bits_per_byte
        if not record.final and record.bits_per_byte < self._best:
            self._best, self._best_step = record.bits_per_byte, record.step

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Save when it is time, somebody asked for it or the run is about to stop."""
        self._saved = None
        due = self._every > 0 and record.step % self._every == 0
        if due or trainer.stop_requested or trainer.checkpoint_requested:
            trainer.checkpoint_requested = False
            self._save(trainer)

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Replace checkpoints of steps that the run went back over: none is resumed from."""
        if any(step > record.step for step in self._folder.steps()):
            self._save(trainer)
            self._folder.drop_after(record.step)

    def on_end(self, trainer: RunningTrainer) -> None:
        """Save the final state with its result."""
        self._save(trainer)

    def on_interruption(self, trainer: RunningTrainer) -> None:
        """Save unless the step under way was saved just now."""
        if self._saved != trainer.progress.step:
            self._save(trainer)

    def _save(self, trainer: RunningTrainer) -> None:
        with trainer.average.applied():
            weights = {
                name: tensor.clone() for name, tensor in trainer.network.state_dict().items()
            }
        _require_finite(weights, trainer.progress.step)
        path = self._folder.save(
            trainer.progress.step,
            weights=weights,
            config=settings_of(trainer.network),
            training_state=trainer.state_dict(),
            metadata={
                "step": trainer.progress.step,
                "held_out_bits_per_byte": self._held_out,
                **self._identity,
            },
        )
        self._folder.prune(self._keep, protect=self._best_checkpoint())
        self._saved = trainer.progress.step
        trainer.emit("on_checkpoint", path)

    def _best_checkpoint(self) -> set[Path]:
        """The first checkpoint at or after the best evaluation."""
        after = [step for step in self._folder.steps() if step >= self._best_step > 0]
        return {self._folder.path_of(min(after))} if after else set()

    def state_dict(self) -> dict[str, Any]:
        """The best evaluation so far."""
        return {"best": self._best, "best_step": self._best_step, "held_out": self._held_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on comparing with it."""
        self._best = state.get("best", math.inf)
        self._best_step = state.get("best_step", 0)
        self._held_out = state.get("held_out")


def _require_finite(weights: Mapping[str, Tensor], step: int) -> None:
    """A step may end in weights that no loss has been computed with yet: they are not saved."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise NonFiniteLossError(
                f"the weight {name} is not finite after step {step}, so it was not saved and the "
                "last checkpoint is good: resume from it with a lower learning rate or with "
                "clip_norm above 0"
            )
