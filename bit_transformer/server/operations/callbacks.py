"""Connects a training with its job: writes records, and passes on requests to stop or to save."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from bit_transformer.errors import ConfigError, InvalidPredictionError, MissingExtraError
from bit_transformer.inference.samples import draw_samples
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.model.transformer import evaluating
from bit_transformer.server.jobs.work import Work
from bit_transformer.telemetry.drift import DriftDetector
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    RecoveryRecord,
    RunningTrainer,
    StepRecord,
    TelemetryRecord,
)

_SAMPLE_BYTES = 160
_SAMPLING = SamplingConfig(temperature=0.8)
_BASELINE = 60
"""Values that a drift detector takes as normal. Few, because runs on a server are often short."""


class JobCallback(Callback):
    """Writes every record into the log of the job, with progress, samples and drift alarms.

    This is for runs of one process: the worker that has the job is the only one that is told to
    stop or to save.
    """

    def __init__(self, work: Work, stop_after: int | None) -> None:
        """Stop and save after `stop_after` steps, or at the planned end for None."""
        self._work, self._stop_after = work, stop_after
        self._detectors: dict[str, DriftDetector] = {}

    def on_start(self, trainer: RunningTrainer) -> None:
        """Log the first step, and pass on requests to stop or to save."""
        self._begin, self._end = trainer.progress.step, trainer.config.steps
        if self._stop_after is not None:
            self._end = min(self._end, self._begin + self._stop_after)
        self._log("begin", trainer.progress.step)
        self._work.on_stop(trainer.interrupt)
        self._work.on_save(trainer.request_checkpoint)

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        """Log the step, and stop after the last requested one."""
        self._log("step", record.step, **dataclasses.asdict(record))
        if record.step >= self._end:
            trainer.request_stop()

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        """Log the evaluation and a sample of the model's output."""
        self._log("evaluation", record.step, **dataclasses.asdict(record))
        self._log("sample", record.step, step=record.step, text=_sample(trainer))

    def on_telemetry(self, trainer: RunningTrainer, record: TelemetryRecord) -> None:
        """Log the metrics, and an alarm for each one that drifts."""
        self._log("telemetry", record.step, **dataclasses.asdict(record))
        for name, value in record.readings.items():
            if math.isfinite(value) and self._drifts(name, value):
                self._log("drift", record.step, step=record.step, reading=name, value=value)

    def on_recovery(self, trainer: RunningTrainer, record: RecoveryRecord) -> None:
        """Log the recovery."""
        self._log("recovery", record.step, **dataclasses.asdict(record))

    def on_checkpoint(self, trainer: RunningTrainer, path: Path) -> None:
        """Log the checkpoint, which is complete on disk."""
        step = trainer.progress.step
        self._log("checkpoint", step, step=step, name=path.name)
        if self._work.stop.is_set():
            self._work.saved.set()

    def _log(self, kind: str, done: int, **fields: Any) -> None:
        self._work.log.progress(kind, done, self._end, "steps", **fields)

    def _drifts(self, name: str, value: float) -> bool:
        try:
            if name not in self._detectors:
                self._detectors[name] = DriftDetector(baseline=_BASELINE)
        except MissingExtraError:
            # Drift alarms are optional; a job without the library trains without them.
            return False
        return self._detectors[name].update(value)


def _sample(trainer: RunningTrainer) -> str:
    """Generate text from an empty prompt. The seed is fixed, so that samples can be compared."""
    try:
        with evaluating(trainer.network), trainer.average.applied():
            (sample,) = draw_samples(trainer.network, b"", _SAMPLE_BYTES, _SAMPLING, seed=0)
    except (ConfigError, InvalidPredictionError):
        return ""
    return sample.content.decode(errors="replace")
