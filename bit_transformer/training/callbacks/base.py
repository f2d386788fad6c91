"""The moments of a run at which other concerns attach."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from bit_transformer.model.transformer import BitTransformer
from bit_transformer.training.averaging import WeightAverage
from bit_transformer.training.config import TrainConfig
from bit_transformer.training.optimizer import CombinedOptimizer


@runtime_checkable
class Loader(Protocol):
    """Where batches come from."""

    def next_batch(self) -> Tensor:
        """Bits of the next micro-batch, (B, T)."""
        ...

    def state_dict(self) -> dict[str, int]:
        """What it takes to go on with the next batch."""
        ...

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        ...


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done."""
    data_bytes: int = 0
    """Bytes of data trained on."""
    seconds: float = 0.0
    """Time spent in steps, earlier parts of a resumed run included."""


@runtime_checkable
class RunningTrainer(Protocol):
    """What a callback sees of the trainer."""

    network: BitTransformer
    loader: Loader
    optimizer: CombinedOptimizer
    config: TrainConfig
    average: WeightAverage
    progress: Progress
    stop_requested: bool
    interrupted: bool
    checkpoint_requested: bool

    def request_stop(self) -> None:
        """End after the step under way; callbacks still evaluate, save and report."""
        ...

    def interrupt(self) -> None:
        """End after the step under way, saved; what takes long is left out or broken off."""
        ...

    def request_checkpoint(self) -> None:
        """Save after the step under way."""
        ...

    def emit(self, moment: str, *details: Any) -> None:
        """Tell every callback that a moment has come."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs besides the weights that are saved for inference."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken; the network must hold the saved weights."""
        ...


class StepAbandoned(Exception):
    """Raised by a callback in `on_gradients` or `on_step_end`: the step did not happen, and the
    trainer goes on with the next one from wherever the callback has put it."""


@dataclass(frozen=True)
class StepRecord:
    """What one optimizer step did."""

    step: int
    """Steps done, this one included."""
    loss: float
    """Objective of the step's windows, bits per byte, before the update."""
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
    """What an evaluation found."""

    step: int
    """Steps done."""
    bits_per_byte: float
    """On held-out data, in windows that fill the context and overlap by half."""
    data_bytes: int
    """Held-out bytes that were read."""
    final: bool
    """Whether all held-out data was read, at the end of the run."""


@dataclass(frozen=True)
class TelemetryRecord:
    """What a step's forward pass looked like from inside, the mean of its first windows."""

    step: int
    """Steps done, this one included."""
    readings: dict[str, float]
    """Values by the names of `telemetry/readings.py`."""


@dataclass(frozen=True)
class RecoveryRecord:
    """What was done about a step that went bad."""

    step: int
    """Steps done, as counted from now on."""
    action: Literal["skip", "return"]
    """The step's data was passed over, or the whole run went back."""
    went_bad: int
    """Number of the step that was abandoned."""
    reason: str
    """What was wrong with it."""
    rate_factor: float
    """Of all learning rates from now on, against those configured."""
    skipped_steps: int
    """Steps whose data is behind the loader now and has left no trace in the weights."""


class Callback:
    """Does nothing at any moment; a concern overrides the moments it needs."""

    def on_start(self, trainer: RunningTrainer) -> None:
        """Before the first step, after a resumed state was restored."""

    def on_gradients(self, trainer: RunningTrainer, loss: float, norm: float) -> None:
        """Gradients are there, weights still as they were; raising here keeps them so."""

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """After an optimizer step."""

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """After held-out data was scored."""

    def on_telemetry(self, trainer: RunningTrainer, record: TelemetryRecord) -> None:
        """After a step's telemetry was read."""

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """After a step was abandoned and the run put where it goes on."""

    def on_checkpoint(self, trainer: RunningTrainer, path: Path) -> None:
        """After a checkpoint is whole on disk."""

    def on_end(self, trainer: RunningTrainer) -> None:
        """After the last step of a run that ended well. What takes long looks at
        `trainer.interrupted` now and then."""

    def on_interruption(self, trainer: RunningTrainer) -> None:
        """After the last step of a run that was interrupted; for what must be saved, at once."""

    def on_close(self, trainer: RunningTrainer) -> None:
        """Last of all, whatever ended the run; for what must be released."""

    def state_dict(self) -> dict[str, Any]:
        """What the callback needs to go on after a resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value, or `{}` from a run that did not have this callback."""
