"""A copy in memory of everything a run needs to go back to it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bit_transformer.training.callbacks.base import RunningTrainer


@dataclass(frozen=True)
class RecoveryPoint:
    """Weights and training state of a moment, on the CPU."""

    weights: dict[str, Tensor]
    """The network's own, not averaged ones."""
    state: dict[str, Any]
    """`state_dict` of the trainer."""
    rate: float
    """Factor that recoveries had put on all learning rates."""
    health: dict[str, Any]
    """What was normal, `Health.state_dict`."""

    @classmethod
    def take(
        cls, trainer: RunningTrainer, owner: str, rate: float, health: dict[str, Any]
    ) -> "RecoveryPoint":
        """Copy the present state, that of the callback `owner`, who holds the points, left out."""
        state = trainer.state_dict()
        state["callbacks"] = {
            name: kept for name, kept in state["callbacks"].items() if name != owner
        }
        return cls(_copied(trainer.network.state_dict()), _copied(state), rate, health)

    @property
    def step(self) -> int:
        """Steps done."""
        step: int = self.state["progress"]["step"]
        return step

    def restore(self, trainer: RunningTrainer, owner: str, kept: dict[str, Any]) -> None:
        """Put weights, optimizer, average, random state and callbacks back. The loader goes on
        where it is, the clock too, and the callback `owner` has the state `kept`."""
        state = _copied(self.state)
        state["loader"] = trainer.loader.state_dict()
        state["progress"]["seconds"] = trainer.progress.seconds
        state["callbacks"][owner] = kept
        trainer.network.load_state_dict(self.weights)
        trainer.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return vars(self).copy()


def _copied(tree: Any) -> Any:
    """Tensors copied to the CPU: optimizers work in place on what they are given."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_copied(value) for value in tree)
    return tree
