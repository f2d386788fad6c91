"""Calibrates the safety gate at the end of a run, on held-out data, for the last checkpoint."""

from typing import Any

from bit_transformer.errors import ConfigError
from bit_transformer.safety.calibration import calibrate_gate, gate_windows
from bit_transformer.safety.gate import METADATA_KEY
from bit_transformer.training.callbacks.base import Callback, RunningTrainer
from bit_transformer.training.callbacks.evaluation import HeldOut

_WINDOWS = 3200


class GateCalibration(Callback):
    """Puts the settings of a calibrated gate into the metadata that checkpoints are saved with.

    Every other held-out window is left alone, for whoever checks the gate. Too little held-out
    data: no gate.
    """

    def __init__(self, held_out: HeldOut, metadata: dict[str, Any]) -> None:
        self._held_out, self._metadata = held_out, metadata

    def on_end(self, trainer: RunningTrainer) -> None:
        """Calibrate with the weights that will be saved."""
        windows = gate_windows(trainer.network, self._held_out(None), _WINDOWS)[::2]
        trainer.network.eval()
        try:
            with trainer.average.applied():
                gate = calibrate_gate(trainer.network, windows)
        except ConfigError:
            return
        finally:
            trainer.network.train()
        self._metadata[METADATA_KEY] = gate.to_dict()
