"""Calibrates the safety gate at the end of a run, on held-out data, for the last checkpoint."""

import dataclasses
import logging
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bit_transformer.errors import ConfigError
from bit_transformer.inference.watch import byte_readings
from bit_transformer.safety.calibration import gate_of_readings, gate_windows, prompt_patches
from bit_transformer.safety.gate import METADATA_KEY, SafetyGate, fewest_windows
from bit_transformer.telemetry.stream import StreamMetrics as Readings
from bit_transformer.training.callbacks.base import Callback, RunningTrainer
from bit_transformer.training.callbacks.evaluation import HeldOut
from bit_transformer.waiting import waiting

_WINDOWS = 3200
SHARE_READ = 0.5
"""Of the held-out windows; the others are left for whoever checks the gate."""
_AT_ONCE = 64
"""Windows read between two looks at whether the run was interrupted."""

_log = logging.getLogger(__name__)


class GateCalibration(Callback):
    """Puts the settings of a calibrated gate into the metadata that checkpoints are saved with.

    Every other held-out window is left alone, for whoever checks the gate. From few windows the
    gate has a wider bound; from fewer than `fewest_windows` there is none, which a warning says.
    """

    def __init__(
        self, held_out: HeldOut, metadata: dict[str, Any], outcome: dict[str, Any]
    ) -> None:
        """`outcome` is filled with `calibrated`, and with the calibration or the `reason`."""
        self._held_out, self._metadata, self._outcome = held_out, metadata, outcome

    def on_end(self, trainer: RunningTrainer) -> None:
        """Calibrate with the weights that will be saved."""
        there = gate_windows(trainer.network, self._held_out(None), _WINDOWS)
        windows = there[:: round(1 / SHARE_READ)]
        if len(windows) < fewest_windows():
            self._leave_out(
                f"the safety gate was not calibrated: it takes at least {2 * fewest_windows() - 1} "
                f"held-out windows of {there.shape[1]} bytes and there are {len(there)}; hold out "
                "more with --held-out-fraction, or train on more data"
            )
            return
        trainer.network.eval()
        try:
            with (
                waiting(f"calibrating the safety gate on {len(windows):,} held-out windows"),
                trainer.average.applied(),
            ):
                readings = self._read(trainer, windows)
            if trainer.interrupted:
                return
            with waiting("fitting the safety gate"):
                self._keep(gate_of_readings(readings, prompt_patches(trainer.network, windows)))
        except ConfigError as error:
            self._leave_out(f"the safety gate was not calibrated: {error}")
        finally:
            trainer.network.train()

    def _read(
        self, trainer: RunningTrainer, windows: UInt8[np.ndarray, "count window"]
    ) -> list[Readings]:
        """The readings of each window, as far as the run is not interrupted."""
        found: list[Readings] = []
        for start in range(0, len(windows), _AT_ONCE):
            if trainer.interrupted:
                break
            found += byte_readings(trainer.network, windows[start : start + _AT_ONCE])
        return found

    def _keep(self, gate: SafetyGate) -> None:
        self._metadata[METADATA_KEY] = gate.to_dict()
        assert gate.calibration is not None
        self._outcome.update(calibrated=True, **dataclasses.asdict(gate.calibration))

    def _leave_out(self, reason: str) -> None:
        self._outcome.update(calibrated=False, reason=reason)
        _log.warning("%s", reason)
