"""The moments of a run, the records that callbacks get at them, and the base class of callbacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from bit_transformer.distributed.world import World
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.base import Objective
from bit_transformer.training.averaging import WeightAverage
from bit_transformer.training.config import TrainConfig
from bit_transformer.training.optimizer import CombinedOptimizer


@runtime_checkable
class Loader(Protocol):
    """The source of batches."""

    def next_batch(self) -> Tensor:
        """Bits of the next micro-batch, (B, T)."""
        ...

    def state_dict(self) -> dict[str, int]:
        """The position in the data, from which the next batch follows."""
        ...

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore a value of `state_dict`."""
        ...


@dataclass
class Progress:
    """Position of a run."""

    step: int = 0
    """Optimizer steps done."""
    data_bytes: int = 0
    """Bytes of data trained on."""
    seconds: float = 0.0
    """Time spent in steps, including those before a resume."""


@runtime_checkable
class RunningTrainer(Protocol):
    """The part of the trainer that callbacks use."""

    network: BitTransformer
    objective: Objective
    loader: Loader
    optimizer: CombinedOptimizer
    config: TrainConfig
    average: WeightAverage
    progress: Progress
    metadata: dict[str, Any]
    """JSON values that checkpoints are saved with."""
    world: World
    device: torch.device
    stop_requested: bool
    interrupted: bool
    checkpoint_requested: bool

    def request_stop(self) -> None:
        """End after the current step. Callbacks still evaluate, save and report."""
        ...

    def interrupt(self) -> None:
        """End after the current step and save. Long work is left out or stopped."""
        ...

    def request_checkpoint(self) -> None:
        """Save after the current step."""
        ...

    def emit(self, moment: str, *details: Any) -> None:
        """Notify every callback of a moment."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the weights that are saved for inference."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken. The network must hold the saved
        weights."""
        ...


class StepAbandoned(Exception):
    """Raised by a callback in `on_gradients` or `on_step_end`. The step does not count, and the
    trainer continues from the state that the callback has set."""


@dataclass(frozen=True)
class StepRecord:
    """The result of one optimizer step."""

    step: int
    """Steps done, this one included."""
    loss: float
    """Training loss of the step's windows before the update, in bits per byte."""
    lr: float
    """Learning rate of the matrices in this step."""
    gradient_norm: float
    """Joint norm of the dense gradients before clipping."""
    data_bytes: int
    """Bytes of data trained on so far."""
    seconds: float
    """Time spent in the loop so far."""


@dataclass(frozen=True)
class EvaluationRecord:
    """The result of an evaluation."""

    step: int
    """Steps done."""
    bits_per_byte: float
    """Cost of held-out data, as the objective evaluates it."""
    data_bytes: int
    """Held-out bytes read."""
    final: bool
    """Whether this is the evaluation at the end, which reads all held-out data."""


@dataclass(frozen=True)
class CalibrationRecord:
    """The result of calibrating the safety gate."""

    calibrated: bool
    """Whether there was enough held-out data for a gate."""
    details: dict[str, Any]
    """The calibration, or the `reason` why there is none, as JSON values."""


@dataclass(frozen=True)
class TelemetryRecord:
    """Metrics of a step's forward pass, averaged over its first windows."""

    step: int
    """Steps done, this one included."""
    readings: dict[str, float]
    """Metrics by name. The name of this field is part of the format of `metrics.jsonl`."""


@dataclass(frozen=True)
class RecoveryRecord:
    """A bad step, and how the run recovered from it."""

    step: int
    """Steps done after the recovery."""
    action: Literal["skip", "return"]
    """Whether the step's data was skipped or the run returned to an earlier state."""
    went_bad: int
    """Number of the abandoned step."""
    reason: str
    """The fault of that step."""
    rate_factor: float
    """Factor on all configured learning rates from now on."""
    skipped_steps: int
    """Steps whose data was read and has no effect on the weights."""


class Callback:
    """Does nothing at any moment; subclasses override the moments they need."""

    name: ClassVar[str] = ""
    """The key of its state in checkpoints. A callback with a state needs a name."""
    every_rank: ClassVar[bool] = False
    """Whether it runs on every rank and not only on the main one. A callback that controls the run
    or computes with the network has to, unless it is for runs of one process."""

    def on_start(self, trainer: RunningTrainer) -> None:
        """Before the first step, after the state of a resumed run was restored."""

    def on_gradients(self, trainer: RunningTrainer, loss: float, norm: float) -> None:
        """After the gradients are computed and before the weights change. An exception here keeps
        the weights unchanged."""

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """After an optimizer step."""

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """After an evaluation on held-out data."""

    def on_calibration(self, trainer: RunningTrainer, record: CalibrationRecord) -> None:
        """After the safety gate was calibrated, or could not be."""

    def on_telemetry(self, trainer: RunningTrainer, record: TelemetryRecord) -> None:
        """After a step's telemetry was computed."""

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """After a step was abandoned and the state to continue from was set."""

    def on_checkpoint(self, trainer: RunningTrainer, path: Path) -> None:
        """After a checkpoint is completely on disk."""

    def on_end(self, trainer: RunningTrainer) -> None:
        """After the last step of a run that was not interrupted. Long work must check
        `trainer.interrupted` regularly."""

    def on_interruption(self, trainer: RunningTrainer) -> None:
        """After the last step of an interrupted run: save what must be saved, quickly."""

    def on_close(self, trainer: RunningTrainer) -> None:
        """At the very end, even after an error: release resources."""

    def state_dict(self) -> dict[str, Any]:
        """The state that the callback needs when the run is resumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a value of `state_dict`, or `{}` from a run without this callback."""
