"""Sees a run go bad, undoes it and goes on: the weights go back, the learning rates down, the data
that did it is passed over.

Bad batches and bad weights look alike in one loss. They are told apart by a batch that was healthy
before: if the network still predicts it as well, the batch at hand is at fault and is skipped
before it reaches the weights; if not, the weights are, and the run returns to a recovery point.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bit_transformer.errors import CollapseError, InvalidPredictionError
from bit_transformer.inference.generate import generate_bits
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.objectives.next_bit import next_bit_loss
from bit_transformer.telemetry.metrics import lz_complexity
from bit_transformer.training.callbacks.base import (
    Callback,
    RecoveryRecord,
    RunningTrainer,
    StepAbandoned,
    StepRecord,
)
from bit_transformer.training.callbacks.health import Health, step_fault
from bit_transformer.training.callbacks.recovery_point import RecoveryPoint
from bit_transformer.training.optimizer import adjust_learning_rate

_RATE_FACTOR = 0.5
"""Of the first return to a point; the second in a row has its square, and so on."""
_NON_FINITE_IN_A_ROW = 3
"""Skipped steps in a row without a number for a loss or gradient, before the weights are blamed."""
_SKIPPED_IN_A_ROW = 100
"""Skipped steps in a row for any reason, before the weights are blamed."""
_ACTIVATIONS_EVERY = 5
_SAMPLE_BYTES = 96
_BAD_SAMPLES = 3
"""Bad samples in a row, a step apart, that are a collapse."""


class Recovery(Callback):
    """Skips what is bad in the data; returns to the last good point when the weights went bad.

    Every `every` steps a point is copied to the CPU. It counts as good when the next one is due and
    nothing was amiss until then, so two are held, of the size of a training state each; they are in
    checkpoints too, for a resumed run returns where the undisturbed one would. The state at the
    start counts as good. Returns from one point in a row lower the rates further each time.

    Raises `CollapseError` at a return beyond `limit`. Comes first among the callbacks: what it
    abandons, the others never see.
    """

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
        """The state here is good until shown otherwise."""
        self._batch = dict(trainer.loader.state_dict())
        self._good = self._good or self._take(trainer)
        self._look_when_due(trainer)

    def on_gradients(self, trainer: RunningTrainer, loss: float, norm: float) -> None:
        """Judge the step before it reaches the weights."""
        non_finite = step_fault(loss, norm)
        fault = non_finite or self._health.loss_fault(loss)
        if fault is not None:
            in_a_row = _NON_FINITE_IN_A_ROW if non_finite else _SKIPPED_IN_A_ROW
            if self._skipped < in_a_row and self._still_knows(trainer):
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
        """Look at samples and take a point when it is time."""
        due = record.step % self._every == 0
        if due or self._bad_samples:
            self._judge_samples(trainer, record.step)
        if due and not self._bad_samples:
            if self._candidate is not None:
                self._good, self._in_a_row = self._candidate, 0
            self._candidate = self._take(trainer)
        self._batch = dict(trainer.loader.state_dict())
        self._look_when_due(trainer)

    def on_close(self, trainer: RunningTrainer) -> None:
        """Leave the network as it was."""
        self._look_away()

    def _skip(self, trainer: RunningTrainer, fault: str) -> None:
        self._skipped += 1
        self._abandon(trainer, "skip", fault, trainer.progress.step + 1, 1)

    def _return(self, trainer: RunningTrainer, fault: str) -> None:
        """To the last good point, with lower rates."""
        point, went_bad = self._good, trainer.progress.step + 1
        assert point is not None
        self._returns += 1
        if self._returns > self._limit:
            raise CollapseError(
                f"training went bad {self._returns} times, max_recoveries is {self._limit}; last, "
                f"in step {went_bad}: {fault}; rates were down to {self._rate:.3g} of those "
                "configured: look at the data, lower lr and embedding_lr, or raise max_recoveries"
            )
        self._in_a_row += 1
        self._rate *= _RATE_FACTOR**self._in_a_row
        self._candidate, self._skipped, self._bad_samples = None, 0, 0
        self._health = Health.from_state(point.health)
        point.restore(trainer, type(self).__name__, self.state_dict())
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
        self._look_when_due(trainer)
        record = RecoveryRecord(trainer.progress.step, action, went_bad, fault, self._rate, skipped)
        trainer.emit("on_recovery", record)
        raise StepAbandoned

    @torch.no_grad()
    def _still_knows(self, trainer: RunningTrainer) -> bool:
        """Whether the network predicts a batch that was healthy before as it should."""
        if self._healthy_batch is None:
            return trainer.progress.step == 0
        here = dict(trainer.loader.state_dict())
        trainer.loader.load_state_dict(self._healthy_batch)
        bits = trainer.loader.next_batch().to(trainer.network.embedding.nodes.device)
        trainer.loader.load_state_dict(here)
        trainer.network.eval()
        loss = float(next_bit_loss(trainer.network, bits))
        trainer.network.train()
        return loss <= self._health.loss_limit()

    def _judge_samples(self, trainer: RunningTrainer, step: int) -> None:
        complexity, surprisal = self._read_sample(trainer, step)
        fault = self._health.sample_fault(complexity, surprisal)
        if fault is None:
            self._bad_samples = 0
            self._health.take_sample(complexity, surprisal)
            return
        self._bad_samples += 1
        if self._bad_samples == _BAD_SAMPLES:
            # The step that ended just now is the one that went bad.
            trainer.progress.step -= 1
            self._return(trainer, fault)

    @torch.no_grad()
    def _read_sample(self, trainer: RunningTrainer, step: int) -> tuple[float, float]:
        """C and own surprisal, bits per byte, of what the model writes, drawn with a generator of
        its own: the run is the same with and without."""
        network = trainer.network
        device = network.embedding.nodes.device
        generator = torch.Generator(device).manual_seed(trainer.config.seed + step)
        length = _SAMPLE_BYTES * network.config.bits_per_byte
        nothing = torch.zeros(1, 0, dtype=torch.uint8)
        network.eval()
        length = min(length, network.config.max_seq_len)
        try:
            bits = generate_bits(network, nothing, length, SamplingConfig(), generator)
            surprisal = float(next_bit_loss(network, bits.to(device)))
        except InvalidPredictionError:
            # Nothing was written: the loss of the next step says what is wrong.
            return 0.0, math.inf
        finally:
            network.train()
        return float(lz_complexity(bits)), surprisal

    def _take(self, trainer: RunningTrainer) -> RecoveryPoint:
        name, health = type(self).__name__, self._health.state_dict()
        return RecoveryPoint.take(trainer, name, self._rate, health)

    def _look_when_due(self, trainer: RunningTrainer) -> None:
        """Have the coming step's residual stream read, every few steps."""
        self._look_away()
        if (trainer.progress.step + 1) % _ACTIVATIONS_EVERY == 0:
            self._handle = trainer.network.stack.register_forward_hook(self._look)

    def _look_away(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._stream = None

    @torch.no_grad()
    def _look(self, stack: nn.Module, _: Any, stream: Tensor) -> None:
        if stack.training and self._stream is None:
            stream = stream.float()
            rms = stream.square().mean().sqrt()
            spread = stream.std(dim=1, correction=0).square().mean().sqrt() / rms
            self._stream = float(rms), float(spread)

    def state_dict(self) -> dict[str, Any]:
        """What is normal, what was done so far, and both points."""
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
        """Go on from there; from a run without recovery, as at a start."""
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
