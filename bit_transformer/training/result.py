"""The result of a run and its report."""

import dataclasses
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bit_transformer.device import describe
from bit_transformer.errors import NothingLearnedError
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.flops import muon_flops_per_step, training_flops_per_byte
from bit_transformer.training.callbacks.base import (
    CalibrationRecord,
    Callback,
    EvaluationRecord,
    Progress,
    RunningTrainer,
    StepRecord,
)
from bit_transformer.training.callbacks.health import UNTRAINED_BITS_PER_BYTE
from bit_transformer.training.config import RunConfig
from bit_transformer.training.run_folder import RunFolder

_MIN_GAIN = 0.001
"""Bits per byte below 8 from which a model has learned something; less is rounding."""
_LAST_STEPS = 25
"""Steps whose mean loss is reported."""


@dataclass(frozen=True)
class RunResult:
    """The result of a run."""

    folder: Path
    """The run folder, with checkpoints, metrics and report."""
    model: BitTransformerLM
    """The trained model in evaluation mode, with averaged weights where the run averages."""
    steps: int
    """Optimizer steps done, including those before a resume."""
    data_bytes: int
    """Bytes of data trained on."""
    training_flops: float
    """Floating-point operations, as `model/flops.py` counts them."""
    seconds: float
    """Time spent in training steps."""
    held_out_bits_per_byte: float | None
    """Cost of all held-out data; None when nothing was held out."""
    held_out_bytes: int
    """Bytes of held-out data."""
    training_bits_per_byte: float | None = None
    """Mean loss of the last steps; None when no step was done."""
    gate: dict[str, Any] = field(default_factory=dict)
    """`calibrated`, and the details of `CalibrationRecord`: the calibration of the safety gate, or
    the reason why there is none."""
    interrupted: bool = False
    """Whether the run was interrupted. It is saved and can be resumed."""

    def require_learned(self) -> None:
        """Raise `NothingLearnedError` unless the model is better than an untrained one, which needs
        8 bits per byte on any data."""
        found = self.held_out_bits_per_byte
        where = "held-out data"
        if found is None:
            found, where = self.training_bits_per_byte, "training data"
        if self.interrupted or found is None or found < UNTRAINED_BITS_PER_BYTE - _MIN_GAIN:
            return
        raise NothingLearnedError(
            f"the run in {self.folder} learned nothing: it needs {found:.3f} bits per byte of "
            f"{where}, and an untrained model needs 8; train longer, with a lower learning rate, "
            "or on data that is neither compressed nor encrypted"
        )


class Outcome(Callback):
    """Collects the values of a run's result."""

    def __init__(self) -> None:
        self._record: EvaluationRecord | None = None
        self._gate: dict[str, Any] = {}
        self._losses: deque[float] = deque(maxlen=_LAST_STEPS)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Remember the last losses."""
        self._losses.append(record.loss)

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Remember the last evaluation."""
        self._record = record

    def on_calibration(self, trainer: RunningTrainer, record: CalibrationRecord) -> None:
        """Remember the calibration."""
        self._gate = {"calibrated": record.calibrated, **record.details}

    def result(
        self,
        config: RunConfig,
        run: RunFolder,
        model: BitTransformerLM,
        done: Progress,
        *,
        interrupted: bool,
    ) -> RunResult:
        """The result of the run, from the collected values."""
        losses, record = self._losses, self._record
        return RunResult(
            folder=run.path,
            model=model,
            steps=done.step,
            data_bytes=done.data_bytes,
            training_flops=_training_flops(config, done),
            seconds=done.seconds,
            held_out_bits_per_byte=record.bits_per_byte if record else None,
            held_out_bytes=record.data_bytes if record else 0,
            training_bits_per_byte=sum(losses) / len(losses) if losses else None,
            gate=self._gate,
            interrupted=interrupted,
        )


def _training_flops(config: RunConfig, done: Progress) -> float:
    """FLOPs of all passes and, with Muon, of its orthogonalisations."""
    passes = done.data_bytes * training_flops_per_byte(config.model, config.window_bytes)
    muon = config.optimizer.optimizer == "muon"
    return passes + muon * done.step * muon_flops_per_step(config.model)


def write_report(run: RunFolder, result: RunResult) -> None:
    """Write the report of a finished run into its folder."""
    report = {
        one.name: getattr(result, one.name)
        for one in dataclasses.fields(result)
        if one.name not in ("folder", "model", "interrupted")
    }
    run.write_report(report | {"device": describe(result.model.device)})
