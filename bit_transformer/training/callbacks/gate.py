"""Calibrates the safety gate on held-out data at the end of a run, for the last checkpoint."""

import dataclasses
import logging

import numpy as np
from jaxtyping import UInt8

from bit_transformer.errors import ConfigError
from bit_transformer.inference.watch import byte_metrics
from bit_transformer.model.transformer import evaluating
from bit_transformer.safety.calibration import gate_from_metrics, gate_windows, prompt_patches
from bit_transformer.safety.gate import METADATA_KEY, SafetyGate, fewest_windows
from bit_transformer.telemetry.stream import StreamMetrics
from bit_transformer.training.callbacks.base import CalibrationRecord, Callback, RunningTrainer
from bit_transformer.training.callbacks.evaluation import HeldOut
from bit_transformer.waiting import waiting

_MAX_WINDOWS = 3200
SHARE_READ = 0.5
"""Share of the held-out windows that calibration reads. The others are left for a later check."""
_WINDOWS_AT_ONCE = 64
"""Windows between two checks for an interruption."""

_log = logging.getLogger(__name__)


class GateCalibration(Callback):
    """Calibrates a gate and stores its settings in the trainer's metadata.

    Every other held-out window is left unread, so that the gate can be checked on it later. Fewer
    windows give a wider bound. With fewer than `fewest_windows` there is no gate, and a warning
    says so. The gate judges causal predictions, so other objectives get no gate.
    """

    every_rank = True

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out

    def on_end(self, trainer: RunningTrainer) -> None:
        """Calibrate with the weights that will be saved."""
        if not trainer.objective.causal:
            name = trainer.objective.name
            _skip(
                trainer,
                f"the safety gate was not calibrated: it needs a causal objective, got {name}",
            )
            return
        held_out = gate_windows(trainer.network, self._held_out(None), _MAX_WINDOWS)
        windows = held_out[:: round(1 / SHARE_READ)]
        if len(windows) < fewest_windows():
            _skip(
                trainer,
                f"the safety gate was not calibrated: it needs at least {2 * fewest_windows() - 1} "
                f"held-out windows of {held_out.shape[1]} bytes and there are {len(held_out)}; "
                "hold out more with --held-out-fraction, or train on more data",
            )
            return
        try:
            with (
                waiting(f"calibrating the safety gate on {len(windows):,} held-out windows"),
                evaluating(trainer.network),
                trainer.average.applied(),
            ):
                metrics = self._read(trainer, windows)
            if trainer.interrupted:
                return
            with waiting("fitting the safety gate"):
                gate = gate_from_metrics(metrics, prompt_patches(trainer.network, windows))
            _store(trainer, gate)
        except ConfigError as error:
            _skip(trainer, f"the safety gate was not calibrated: {error}")

    def _read(
        self, trainer: RunningTrainer, windows: UInt8[np.ndarray, "count window"]
    ) -> list[StreamMetrics]:
        """The metrics of each window, until the run is interrupted."""
        found: list[StreamMetrics] = []
        for start in range(0, len(windows), _WINDOWS_AT_ONCE):
            if trainer.interrupted:
                break
            found += byte_metrics(trainer.network, windows[start : start + _WINDOWS_AT_ONCE])
        return found


def _store(trainer: RunningTrainer, gate: SafetyGate) -> None:
    trainer.metadata[METADATA_KEY] = gate.to_dict()
    assert gate.calibration is not None
    details = dataclasses.asdict(gate.calibration)
    trainer.emit("on_calibration", CalibrationRecord(calibrated=True, details=details))


def _skip(trainer: RunningTrainer, reason: str) -> None:
    _log.warning("%s", reason)
    record = CalibrationRecord(calibrated=False, details={"reason": reason})
    trainer.emit("on_calibration", record)
