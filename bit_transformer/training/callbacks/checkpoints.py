"""Saves the whole state of a run, removes old checkpoints and keeps the best one."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.errors import NonFiniteLossError
from bit_transformer.network_spec import spec_of
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
)


class Checkpoints(Callback):
    """Saves every `every` steps, when a stop or a checkpoint was requested, and at the end.

    The newest `keep` checkpoints stay, and so does the first one at or after the best evaluation.
    Every checkpoint includes the trainer's metadata.
    """

    name = "checkpoints"
    every_rank = True

    def __init__(self, folder: CheckpointFolder, every: int, keep: int) -> None:
        self._folder, self._every, self._keep = folder, every, keep
        self._best, self._best_step = math.inf, 0
        self._held_out: float | None = None
        self._saved: int | None = None
        """The step of the last checkpoint. None after a further step."""

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Remember the best result. The final one is of other bytes and does not count."""
        self._held_out = record.bits_per_byte
        if not record.final and record.bits_per_byte < self._best:
            self._best, self._best_step = record.bits_per_byte, record.step

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Save when a checkpoint is due or requested, or when the run is about to stop."""
        self._saved = None
        due = self._every > 0 and record.step % self._every == 0
        if due or trainer.stop_requested or trainer.checkpoint_requested:
            trainer.checkpoint_requested = False
            self._save(trainer)

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Replace the checkpoints of undone steps, so that no run resumes from one."""
        if any(step > record.step for step in self._folder.steps()):
            self._save(trainer)
            self._folder.drop_after(record.step)

    def on_end(self, trainer: RunningTrainer) -> None:
        """Save the final state."""
        self._save(trainer)

    def on_interruption(self, trainer: RunningTrainer) -> None:
        """Save, unless this step is already saved."""
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
            config=spec_of(trainer.network).to_dict(),
            training_state=trainer.state_dict(),
            metadata={
                "step": trainer.progress.step,
                "held_out_bits_per_byte": self._held_out,
                **trainer.metadata,
            },
            objective=trainer.objective.name,
        )
        self._folder.prune(self._keep, protect=self._best_checkpoint())
        self._saved = trainer.progress.step
        trainer.emit("on_checkpoint", path)

    def _best_checkpoint(self) -> set[Path]:
        """The first checkpoint at or after the best evaluation."""
        after = [step for step in self._folder.steps() if step >= self._best_step > 0]
        return {self._folder.path_of(min(after))} if after else set()

    def state_dict(self) -> dict[str, Any]:
        """The best and the newest result."""
        return {"best": self._best, "best_step": self._best_step, "held_out": self._held_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a value of `state_dict`."""
        self._best = state.get("best", math.inf)
        self._best_step = state.get("best_step", 0)
        self._held_out = state.get("held_out")


def _require_finite(weights: Mapping[str, Tensor], step: int) -> None:
    """Raise `NonFiniteLossError` for NaN or infinity. The trainer checks only loss and gradients,
    so weights that the newest update broke would be saved."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise NonFiniteLossError(
                f"the weight {name} is not finite after step {step}, which was not saved; the last "
                "checkpoint is good: resume from it with a lower learning rate or with clip_norm "
                "above 0"
            )
