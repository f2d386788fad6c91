"""Builds the optimizer: Muon, or another one, for matrices, SparseAdam for the memory tables, and
AdamW for the other weights.

Muon is in `muon.py`. All others come from torch or a maintained library.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adafactor, AdamW, Optimizer, SparseAdam

from bit_transformer.errors import CheckpointMismatchError
from bit_transformer.extras import import_extra
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.training.config import OptimizerConfig, OptimizerName
from bit_transformer.training.muon import FastMuon
from bit_transformer.training.schedule import Schedule, one_cycle

_MATRIX_RATES: dict[OptimizerName, float] = {
    "muon": 0.015,
    "adamw": 3e-3,
    "lion": 5e-4,
    "adafactor": 1e-2,
}


class CombinedOptimizer:
    """Several optimizers that step as one, each over its own weights."""

    def __init__(self, parts: dict[str, Optimizer], network: nn.Module) -> None:
        """`network` supplies the names of the weights, under which their state is saved."""
        self.parts = parts
        self._names = {id(weight): name for name, weight in network.named_parameters()}
        for group in self.param_groups:
            group["base_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts. A schedule's factor multiplies `base_lr`."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def scale_rates(self, factor: float) -> None:
        """Set every learning rate to `factor` times its base."""
        for group in self.param_groups:
            group["lr"] = group["base_lr"] * factor

    def step(self) -> None:
        """Update all weights that have a gradient."""
        for part in self.parts.values():
            part.step()

    def zero_grad(self) -> None:
        """Discard all gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def dense_parameters(self) -> list[Tensor]:
        """The weights with dense gradients. Sparse gradients cannot be clipped."""
        return [
            weight
            for name, part in self.parts.items()
            if name != "memory"
            for group in part.param_groups
            for weight in group["params"]
        ]

    def state_dict(self) -> dict[str, Any]:
        """The state of every part, in which weights are keyed by name."""
        return {name: self._by_name(part) for name, part in self.parts.items()}

    def _by_name(self, part: Optimizer) -> dict[str, Any]:
        return _rekeyed(part.state_dict(), dict(enumerate(self._names_in(part))))

    def _names_in(self, part: Optimizer) -> list[str]:
        """Names of the weights of a part, in the order in which torch numbers them."""
        return [
            self._names[id(weight)] for group in part.param_groups for weight in group["params"]
        ]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a value of `state_dict`.

        Raises `CheckpointMismatchError` when it is from other optimizers or other weights.
        """
        if state.keys() != self.parts.keys():
            raise CheckpointMismatchError(
                f"the checkpoint was trained with {sorted(state)}, this run uses "
                f"{sorted(self.parts)}; resume with the optimizer it was saved with"
            )
        for name, part in self.parts.items():
            part.load_state_dict(self._by_index(name, state[name]))

    def _by_index(self, name: str, state: dict[str, Any]) -> dict[str, Any]:
        """The state of a part with weights keyed by index, as torch and older checkpoints do."""
        saved = [weight for group in state["param_groups"] for weight in group["params"]]
        if all(isinstance(weight, int) for weight in saved):
            return state
        names = self._names_in(self.parts[name])
        if sorted(saved) != sorted(names):
            other = sorted(set(saved) ^ set(names))[0]
            raise CheckpointMismatchError(
                f"the optimizers of the checkpoint and of this run update different weights, such "
                f"as {other!r}; resume with the model and optimizer it was saved with"
            )
        return _rekeyed(state, {weight: index for index, weight in enumerate(names)})


def _rekeyed(state: dict[str, Any], keys: Mapping[Any, Any]) -> dict[str, Any]:
    """The state of a torch optimizer with another key for each weight."""
    return {
        "state": {keys[weight]: kept for weight, kept in state["state"].items()},
        "param_groups": [
            {**group, "params": [keys[weight] for weight in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def build_optimizer(network: BitTransformer, config: OptimizerConfig) -> CombinedOptimizer:
    """One optimizer for all weights of a network.

    The matrices of the trunk's blocks get the configured optimizer. Embeddings, head, projections
    and halting units get AdamW. The memory tables get SparseAdam, which updates only the rows that
    were looked up.
    """
    matrices = list(network.stack.blocks.parameters())
    rows = [] if network.memory is None else [network.memory.rows.weight]
    special = {id(weight) for weight in (*matrices, *rows)}
    rest = [weight for weight in network.parameters() if id(weight) not in special]
    parts = {"matrices": _matrix_optimizer(matrices, config), "rest": _rest_optimizer(rest, config)}
    if rows:
        parts["memory"] = SparseAdam(rows, lr=config.memory_lr, betas=(0.9, 0.95))
    return CombinedOptimizer(parts, network)


def _matrix_optimizer(weights: list[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    lr = _MATRIX_RATES[config.optimizer] if config.lr is None else config.lr
    decay = config.weight_decay
    if config.optimizer == "muon":
        return FastMuon(weights, lr=lr, weight_decay=decay, momentum=config.momentum)
    if config.optimizer == "lion":
        return _lion()(weights, lr=lr, weight_decay=decay)
    if config.optimizer == "adafactor":
        return Adafactor(weights, lr=lr, weight_decay=decay)
    return AdamW(weights, lr=lr, weight_decay=decay, betas=(0.9, 0.95), fused=True)


def _rest_optimizer(weights: list[nn.Parameter], config: OptimizerConfig) -> Optimizer:
    return AdamW(weights, lr=config.embedding_lr, weight_decay=0, betas=(0.9, 0.95), fused=True)


def _lion() -> Callable[..., Optimizer]:
    library = import_extra(
        "pytorch_optimizer",
        "the package pytorch-optimizer",
        extra="optimizers",
        purpose="the optimizer 'lion'",
    )
    lion: Callable[..., Optimizer] = library.Lion
    return lion


def configure_optimizer(
    model: nn.Module, lr: float | None = None, weight_decay: float = 0.0, total_steps: int = 1000
) -> tuple[CombinedOptimizer, Schedule]:
    """The default optimizer of a model and a one-cycle schedule over `total_steps` optimizer steps.

    Use: `optimizer.scale_rates(schedule(step))` before each `optimizer.step()`.
    """
    network = next(module for module in model.modules() if isinstance(module, BitTransformer))
    config = OptimizerConfig(lr=lr, weight_decay=weight_decay)
    return build_optimizer(network, config), one_cycle(total_steps, warmup=0.1)


def adjust_learning_rate(optimizer: CombinedOptimizer | Optimizer, factor: float) -> float:
    """Multiply all learning rates, now and for the rest of the schedule. Returns the first one."""
    for group in optimizer.param_groups:
        group["lr"] *= factor
        if "base_lr" in group:
            group["base_lr"] *= factor
    rate: float = optimizer.param_groups[0]["lr"]
    return rate


def gradient_norm(weights: Iterable[Tensor], max_norm: float) -> Tensor:
    """Clip dense gradients to a joint norm of `max_norm` (0: do not). Returns the norm before."""
    limit = max_norm if max_norm > 0 else float("inf")
    return torch.nn.utils.clip_grad_norm_(weights, limit)
