"""Detects a run that goes bad, undoes it and continues: the weights return to an earlier state, the
learning rates are lowered, and the data at fault is skipped.

Bad batches and bad weights look alike in one loss. A batch that was healthy before tells them
apart. If the network still predicts it, the present batch is at fault and is skipped before the
weights change. If not, the weights are at fault, and the run returns to a recovery point. Without
recovery, `NaNGuard` stops the run at the first NaN or infinity.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bit_transformer.errors import CollapseError, InvalidPredictionError, NonFiniteLossError
from bit_transformer.inference.generate import generate_bits
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.model.halting import Exits
from bit_transformer.model.transformer import evaluating
from bit_transformer.telemetry.metrics import lz_complexity
from bit_transformer.training.callbacks.base import (
    Callback,
    RecoveryRecord,
    RunningTrainer,
    StepAbandoned,
    StepRecord,
)
from bit_transformer.training.callbacks.health import Health, step_fault
from bit_transformer.training.optimizer import adjust_learning_rate

_RATE_FACTOR = 0.5
"""Factor on the learning rates at the first return to a point. The n-th return has its n-th power.
"""
_NON_FINITE_IN_A_ROW = 3
"""Steps with a NaN or infinity that are skipped in a row before the weights are at fault."""
_SKIPPED_IN_A_ROW = 100
"""Steps that are skipped in a row for any reason before the weights are at fault."""
_ACTIVATIONS_EVERY = 5  # The statistics cost a pass over the residual stream.
_SAMPLE_BYTES = 96
_BAD_SAMPLES = 3
"""Bad samples in a row, one after each step, that count as a collapse."""


class NaNGuard(Callback):
    """Raises `NonFiniteLossError` naming the step. Weights and checkpoints stay unchanged."""

    every_rank = True

    def on_gradients(self, trainer: RunningTrainer, loss: float, norm: float) -> None:
        """Check the loss and the joint norm of the gradients."""
        fault = step_fault(loss, norm)
        if fault is not None:
            raise NonFiniteLossError(
                f"{fault} in step {trainer.progress.step + 1} (loader "
                f"{trainer.loader.state_dict()}); the weights were not updated and the last "
                "checkpoint is good: resume from it with a lower learning rate or with clip_norm "
                "above 0"
            )


@dataclass(frozen=True)
class RecoveryPoint:
    """A copy of weights and training state in memory, on the CPU."""

    weights: dict[str, Tensor]
    """The network's own weights, not the averaged ones."""
    state: dict[str, Any]
    """`state_dict` of the trainer."""
    rate: float
    """Factor on all learning rates from earlier recoveries."""
    health: dict[str, Any]
    """Healthy values up to this point, see `Health.state_dict`."""

    @classmethod
    def take(
        cls, trainer: RunningTrainer, owner: str, rate: float, health: dict[str, Any]
    ) -> "RecoveryPoint":
        """Copy the present state, except that of the callback `owner`, which has the points."""
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
        """Restore weights, optimizer, average, random state and callbacks.

        The loader and the clock are not reset, so the bad data is not read again. The callback
        `owner` gets the state `kept`."""
        state = _copied(self.state)
        state["loader"] = trainer.loader.state_dict()
        state["progress"]["seconds"] = trainer.progress.seconds
        state["callbacks"][owner] = kept
        trainer.network.load_state_dict(self.weights)
        trainer.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """All fields, for a checkpoint."""
        return vars(self).copy()


class Recovery(Callback):
    """Skips bad data, and returns to the last good point when the weights went bad.

    Every `every` steps a point is copied to the CPU. It counts as good when the next point is due
    and no fault was found in between. So two points are held, each as large as a training state.
    Checkpoints contain both, so that a resumed run returns to the same points as an uninterrupted
    one. The state at the start counts as good. Each further return to the same point lowers the
    learning rates more.

    Raises `CollapseError` after more than `limit` returns. This must be the first callback, so that
    the others do not see abandoned steps. Only networks of causal objectives are sampled.
    """

    name = "recovery"
    every_rank = True

    def __init__(self, every: int, limit: int) -> None:
        self._every, self._limit = every, limit
        self._health = Health()
        self._good: RecoveryPoint | None = None
        self._candidate: RecoveryPoint | None = None
        self._returns, self._in_a_row, self._rate = 0, 0, 1.0
        self._skipped, self._bad_samples = 0, 0
        self._healthy_batch: dict[str, int] | None = None
        self._batch: dict[str, int] = {}
        self._handle: Any = None
        self._stream: tuple[float, float] | None = None

    def on_start(self, trainer: RunningTrainer) -> None:
        """Take the first point, unless a resumed run has one."""
        self._batch = dict(trainer.loader.state_dict())
        self._good = self._good or self._take(trainer)
        self._observe_when_due(trainer)

    def on_gradients(self, trainer: RunningTrainer, loss: float, norm: float) -> None:
        """Check loss, gradients and activations before the weights change."""
        non_finite = step_fault(loss, norm)
        fault = non_finite or self._health.loss_fault(loss)
        if fault is not None:
            in_a_row = _NON_FINITE_IN_A_ROW if non_finite else _SKIPPED_IN_A_ROW
            if self._skipped < in_a_row and self._still_predicts(trainer):
                self._skip(trainer, fault)
            self._return(trainer, fault)
        if self._stream is not None:
            fault = self._health.activation_fault(*self._stream)
            if fault is not None:
                self._return(trainer, fault)
            self._health.take_activations(self._stream[0])
        self._health.take_loss(loss)
        fault = self._health.drift_fault()
        if fault is not None:
            self._return(trainer, fault)
        self._skipped, self._healthy_batch = 0, self._batch

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Check a sample and take a point when they are due."""
        due = record.step % self._every == 0
        if (due or self._bad_samples) and trainer.objective.causal:
            self._check_sample(trainer, record.step)
        if due and not self._bad_samples:
            if self._candidate is not None:
                self._good, self._in_a_row = self._candidate, 0
            self._candidate = self._take(trainer)
        self._batch = dict(trainer.loader.state_dict())
        self._observe_when_due(trainer)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Remove the hook from the network."""
        self._detach()

    def _skip(self, trainer: RunningTrainer, fault: str) -> None:
        self._skipped += 1
        self._abandon(trainer, "skip", fault, trainer.progress.step + 1, 1)

    def _return(self, trainer: RunningTrainer, fault: str) -> None:
        """Return to the last good point with lower learning rates."""
        point, went_bad = self._good, trainer.progress.step + 1
        assert point is not None
        self._returns += 1
        if self._returns > self._limit:
            raise CollapseError(
                f"training went bad {self._returns} times, max_recoveries is {self._limit}; the "
                f"last fault, in step {went_bad}: {fault}; the learning rates were down to "
                f"{self._rate:.3g} of the configured ones: check the data, lower lr and "
                "embedding_lr, or raise max_recoveries"
            )
        self._in_a_row += 1
        self._rate *= _RATE_FACTOR**self._in_a_row
        self._candidate, self._skipped, self._bad_samples = None, 0, 0
        self._health = Health.from_state(point.health)
        point.restore(trainer, self.name, self.state_dict())
        adjust_learning_rate(trainer.optimizer, self._rate / point.rate)
        self._abandon(trainer, "return", fault, went_bad, went_bad - point.step)

    def _abandon(
        self,
        trainer: RunningTrainer,
        action: Literal["skip", "return"],
        fault: str,
        went_bad: int,
        skipped: int,
    ) -> None:
        self._batch = dict(trainer.loader.state_dict())
        self._observe_when_due(trainer)
        record = RecoveryRecord(trainer.progress.step, action, went_bad, fault, self._rate, skipped)
        trainer.emit("on_recovery", record)
        raise StepAbandoned

    @torch.no_grad()
    def _still_predicts(self, trainer: RunningTrainer) -> bool:
        """Whether the loss of a batch that was healthy before is still healthy."""
        if self._healthy_batch is None:
            return trainer.progress.step == 0
        here = dict(trainer.loader.state_dict())
        trainer.loader.load_state_dict(self._healthy_batch)
        bits = trainer.loader.next_batch().to(trainer.device)
        trainer.loader.load_state_dict(here)
        done = trainer.progress.step / trainer.config.steps
        with evaluating(trainer.network):
            loss = float(trainer.objective.loss(trainer.network, bits, done))
        return loss <= self._health.loss_limit()

    def _check_sample(self, trainer: RunningTrainer, step: int) -> None:
        complexity, surprisal = self._measure_sample(trainer, step)
        fault = self._health.sample_fault(complexity, surprisal)
        if fault is None:
            self._bad_samples = 0
            self._health.take_sample(complexity, surprisal)
            return
        self._bad_samples += 1
        if self._bad_samples == _BAD_SAMPLES:
            # The step that has just ended is the one that went bad.
            trainer.progress.step -= 1
            self._return(trainer, fault)

    @torch.no_grad()
    def _measure_sample(self, trainer: RunningTrainer, step: int) -> tuple[float, float]:
        """C of a sample, and its surprisal under the model in bits per byte. It is drawn with a
        generator of its own, so that it does not change the run."""
        network, device = trainer.network, trainer.device
        generator = torch.Generator(device).manual_seed(trainer.config.seed + step)
        length = _SAMPLE_BYTES * network.config.bits_per_byte
        nothing = torch.zeros(1, 0, dtype=torch.uint8)
        length = min(length, network.config.max_seq_len)
        try:
            with evaluating(network):
                bits = generate_bits(network, nothing, length, SamplingConfig(), generator)
                surprisal = float(trainer.objective.code_length(network, bits.to(device)))
        except InvalidPredictionError:
            # There is no sample. The loss of the next step will show the fault.
            return 0.0, math.inf
        return float(lz_complexity(bits)), surprisal

    def _take(self, trainer: RunningTrainer) -> RecoveryPoint:
        name, health = self.name, self._health.state_dict()
        return RecoveryPoint.take(trainer, name, self._rate, health)

    def _observe_when_due(self, trainer: RunningTrainer) -> None:
        """Attach the hook to the stack if the coming step is to be measured."""
        self._detach()
        if (trainer.progress.step + 1) % _ACTIVATIONS_EVERY == 0:
            self._handle = trainer.network.stack.register_forward_hook(self._observe)

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._stream = None

    @torch.no_grad()
    def _observe(self, stack: nn.Module, _: Any, output: Tensor | Exits) -> None:
        if stack.training and self._stream is None:
            # With all exits, the last state is the end of the trunk.
            stream = (output if isinstance(output, Tensor) else output[0][-1]).float()
            rms = stream.square().mean().sqrt()
            spread = stream.std(dim=1, correction=0).square().mean().sqrt() / rms
            self._stream = float(rms), float(spread)

    def state_dict(self) -> dict[str, Any]:
        """Healthy values, the recoveries so far, and both points."""
        return {
            "health": self._health.state_dict(),
            "good": None if self._good is None else self._good.state_dict(),
            "candidate": None if self._candidate is None else self._candidate.state_dict(),
            "returns": self._returns,
            "in_a_row": self._in_a_row,
            "skipped": self._skipped,
            "bad_samples": self._bad_samples,
            "rate": self._rate,
            "healthy_batch": self._healthy_batch,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a value of `state_dict`. Without a state, begin as at the start of a run."""
        if not state:
            return
        self._health = Health.from_state(state["health"])
        self._good, self._candidate = (
            None if state[name] is None else RecoveryPoint(**state[name])
            for name in ("good", "candidate")
        )
        self._returns, self._in_a_row = state["returns"], state["in_a_row"]
        self._skipped, self._bad_samples = state["skipped"], state["bad_samples"]
        self._rate = state["rate"]
        self._healthy_batch = state["healthy_batch"]


def _copied(tree: Any) -> Any:
    """The tree with its tensors copied to the CPU, because optimizers change tensors in place."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_copied(value) for value in tree)
    return tree
