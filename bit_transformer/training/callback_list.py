"""The callbacks of a run. To add one, write a module in `callbacks/` and add a line here."""

from bit_transformer.data.dataset import Dataset
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.callbacks.checkpoints import Checkpoints
from bit_transformer.training.callbacks.evaluation import EarlyStop, Evaluation
from bit_transformer.training.callbacks.gate import SHARE_READ, GateCalibration
from bit_transformer.training.callbacks.metrics_log import MetricsLog
from bit_transformer.training.callbacks.plots import Plots, can_plot
from bit_transformer.training.callbacks.progress import ProgressBar
from bit_transformer.training.callbacks.recovery import NaNGuard, Recovery
from bit_transformer.training.callbacks.telemetry import TelemetryReader
from bit_transformer.training.callbacks.tensorboard import TensorBoardWriter
from bit_transformer.training.callbacks.trackio import TrackioWriter
from bit_transformer.training.config import RunConfig
from bit_transformer.training.run_folder import RunFolder


def build_callbacks(
    config: RunConfig, run: RunFolder, dataset: Dataset, *, progress: bool
) -> list[Callback]:
    """The callbacks in the order in which they are notified.

    Guards come first, because they may abandon a step. Checkpoints come after everything that they
    save, and plots after the records that they draw. `fit.py` adds `Outcome`, the command
    `train` adds `StopSignals` and `HubMirror`, and the server adds `JobCallback`.
    """
    recovery, saving, measured = config.recovery, config.checkpoints, config.evaluation
    held_out = dataset.held_out_bytes
    # The progress bar measures time in bytes of evaluation. Evaluation reads each byte twice,
    # because its windows overlap by half. The gate reads each byte of its share once, so such a
    # byte counts half.
    bytes_at_end = dataset.held_out_size * (1 + SHARE_READ / 2)
    return [
        Recovery(recovery.recovery_every, recovery.max_recoveries)
        if recovery.max_recoveries
        else NaNGuard(),
        *([ProgressBar(bytes_at_end)] if progress else []),
        MetricsLog(run.metrics),
        *([TelemetryReader(measured.telemetry_every)] if measured.telemetry_every else []),
        Evaluation(held_out, measured.evaluate_every, measured.evaluate_bytes),
        *([EarlyStop(measured.patience)] if measured.patience else []),
        *([TensorBoardWriter(run.path / "tensorboard")] if config.train.tensorboard else []),
        *([TrackioWriter(run.path.name, config.to_dict())] if config.train.trackio else []),
        GateCalibration(held_out),
        Checkpoints(run.checkpoints, saving.checkpoint_every, saving.keep_checkpoints),
        *([Plots(run.metrics, run.picture)] if can_plot() else []),
    ]
