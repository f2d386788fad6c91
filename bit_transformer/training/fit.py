"""Builds a run from its config and trains it."""

import dataclasses
import logging
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bit_transformer.checkpoint.atomic import atomic_write_bytes
from bit_transformer.checkpoint.format import load_checkpoint
from bit_transformer.data.config import DataConfig
from bit_transformer.data.dataset import Dataset
from bit_transformer.data.sources import absolute_source
from bit_transformer.device import describe, pick_device
from bit_transformer.distributed.parallelize import parallelize
from bit_transformer.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    NothingLearnedError,
    UnsupportedCombination,
)
from bit_transformer.lm import BitTransformerLM, load_weights
from bit_transformer.model.flops import muon_flops_per_step, training_flops_per_byte
from bit_transformer.objectives.regularizers import regularized
from bit_transformer.objectives.run_length import RunLengthObjective
from bit_transformer.quantization import prepare_qat_fx, require_trainable, scheme_of
from bit_transformer.training.callbacks.base import (
    Callback,
    EvaluationRecord,
    Progress,
    RunningTrainer,
    StepRecord,
)
from bit_transformer.training.callbacks.checkpoints import Checkpoints
from bit_transformer.training.callbacks.early_stop import EarlyStop
from bit_transformer.training.callbacks.evaluation import Evaluation
from bit_transformer.training.callbacks.gate import SHARE_READ, GateCalibration
from bit_transformer.training.callbacks.metrics_log import MetricsLog
from bit_transformer.training.callbacks.nan_guard import NaNGuard
from bit_transformer.training.callbacks.plots import Plots, can_plot
from bit_transformer.training.callbacks.progress import ProgressBar
from bit_transformer.training.callbacks.recovery import Recovery
from bit_transformer.training.callbacks.run_length_ramp import RunLengthRamp
from bit_transformer.training.callbacks.telemetry import TelemetryReader
from bit_transformer.training.callbacks.tensorboard import TensorBoardWriter
from bit_transformer.training.callbacks.trackio import TrackioWriter
from bit_transformer.training.config import OptimizerConfig, RunConfig, TrainConfig
from bit_transformer.training.memory_estimate import fit_into_budget
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.run_folder import RunFolder
from bit_transformer.training.trainer import Objective, Trainer
from bit_transformer.waiting import waiting

UNTRAINED_BITS_PER_BYTE = 8.0
"""What a model costs that has learned nothing: every byte value is as likely as any other."""
_VISIBLE = 0.001
_LAST_STEPS = 25

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    folder: Path
    """The run folder, with checkpoints, metrics and report."""
    model: BitTransformerLM
    """The trained model (averaged weights when the run averages), in evaluation mode."""
    steps: int
    """Optimizer steps done, those before a resume included."""
    data_bytes: int
    """Bytes of data trained on."""
    training_flops: float
    """By the ledger of `model/flops.py`."""
    seconds: float
    """Time in training steps."""
    held_out_bits_per_byte: float | None
    """On all held-out data; None when nothing was held out."""
    held_out_bytes: int
    """Bytes of held-out data."""
    training_bits_per_byte: float | None = None
    """Mean loss of the last steps; None when none was done."""
    gate: dict[str, Any] = field(default_factory=dict)
    """How the safety gate was calibrated, or why it was not: see `GateCalibration`."""
    interrupted: bool = False
    """Whether the run was interrupted: saved, and to be gone on with."""

    def require_learned(self) -> None:
        """Raise `NothingLearnedError` when the model is no better than an untrained one, which
        costs 8 bits per byte of anything."""
        found = self.held_out_bits_per_byte
        where = "held-out data"
        if found is None:
            found, where = self.training_bits_per_byte, "training data"
        if self.interrupted or found is None or found < UNTRAINED_BITS_PER_BYTE - _VISIBLE:
            return
        raise NothingLearnedError(
            f"the run in {self.folder} learned nothing: {found:.3f} bits per byte of {where}, and "
            "an untrained model has 8; train with a lower learning rate or longer, or on data that "
            "is neither compressed nor encrypted"
        )


def fit(
    model: BitTransformerLM,
    data: bytes | str | Path | Sequence[str | Path],
    train: TrainConfig | None = None,
    *,
    optimizer: OptimizerConfig | None = None,
    held_out_fraction: float = 0.05,
    out: str | Path | None = None,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
) -> RunResult:
    """Train `model` in place on bytes or on files, folders and globs; the result holds the same
    model.

    `out` names the run folder; left out, a new one under the system's temporary folder. A run that
    learned nothing is told with a warning: `RunResult.require_learned` raises.

    Raises `BusyError` while somebody else writes in the run folder.
    """
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="bit-transformer-"))
    run = RunFolder(folder)
    with run.writing():
        run.require_new()
        if isinstance(data, bytes):
            source = folder / "data.bin"
            atomic_write_bytes(source, data)
            data = source
        paths = (data,) if isinstance(data, str | Path) else tuple(data)
        sources = tuple(absolute_source(str(path)) for path in paths)
        config = RunConfig(
            data=DataConfig(sources, held_out_fraction=held_out_fraction),
            model=model.config,
            optimizer=optimizer or OptimizerConfig(),
            train=_as_the_model_is_used(train or TrainConfig(), model),
            regularizers=model.regularizers,
        )
        config = fit_into_budget(config)
        result = _run(config, run, model, None, progress=progress, callbacks=callbacks)
    try:
        result.require_learned()
    except NothingLearnedError as error:
        _log.warning("%s", error)
    return result


def _as_the_model_is_used(train: TrainConfig, model: BitTransformerLM) -> TrainConfig:
    """The settings with what the model was told of checkpointing and autocast.

    Raises `UnsupportedCombination` for weights that are not float32.
    """
    dtype = model.network.embedding.nodes.dtype
    if dtype != torch.float32:
        raise UnsupportedCombination(
            f"fit and weights of {dtype} exclude each other: call model.float() first, and have "
            "products done in bfloat16 with TrainConfig(precision='bf16')"
        )
    return dataclasses.replace(
        train,
        use_checkpoint=train.use_checkpoint or model.use_checkpoint,
        precision="bf16" if model.use_autocast and train.precision == "auto" else train.precision,
    )


def train_run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
) -> RunResult:
    """Train a new model as `config` says into the run folder `out`, or go on with the run in it.

    A resumed run takes the same batches, masks and learning rates as one that was never
    interrupted. Where data lies is recorded in whole paths, so that a run can be resumed from
    anywhere.

    Raises `BusyError` while somebody else writes in the run folder; nothing is changed there then.
    """
    run = RunFolder(out)
    if resume:
        # Before the lock: a folder that holds no run is not to be made here.
        run.config()
    with run.writing():
        checkpoint = run.checkpoints.latest(training=True) if resume else None
        if not resume:
            run.require_new()
        elif run.config().model != config.model:
            raise CheckpointMismatchError(
                f"{out} holds a model of another configuration than the one asked for; leave the "
                "model settings out to resume it, or train a new run with --out"
            )
        sources = tuple(map(absolute_source, config.data.sources))
        data = dataclasses.replace(config.data, sources=sources)
        config = fit_into_budget(dataclasses.replace(config, data=data))
        torch.manual_seed(config.train.seed)
        model = BitTransformerLM.from_config(config.model)
        return _run(config, run, model, checkpoint, progress=progress, callbacks=callbacks)


def _run(
    config: RunConfig,
    run: RunFolder,
    model: BitTransformerLM,
    checkpoint: Path | None,
    *,
    progress: bool,
    callbacks: Iterable[Callback],
) -> RunResult:
    require_trainable(model)
    if config.train.qat and scheme_of(model) is None:
        prepare_qat_fx(model)
    model.to(pick_device(config.train.device))
    with waiting("reading the data"):
        dataset = run.dataset(config)
    outcome = _Outcome()
    beside = [*_callbacks(config, run, dataset, outcome, progress=progress), outcome, *callbacks]
    trainer = _trainer(config, model, dataset, beside)
    # Only now: a run that could not begin leaves nothing that looks like one.
    if not run.exists():
        run.create(config)
    else:
        if checkpoint is not None:
            _restore(trainer, model, checkpoint, dataset)
        run.go_on(config)
    train = config.train
    parallelize(model.network, use_checkpoint=train.use_checkpoint, compile=train.compile)
    done = trainer.fit()
    with trainer.average.applied():
        weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    model.network.load_state_dict(weights)
    result = RunResult(
        folder=run.path,
        model=model.eval(),
        steps=done.step,
        data_bytes=done.data_bytes,
        training_flops=_training_flops(config, done),
        seconds=done.seconds,
        held_out_bits_per_byte=outcome.record.bits_per_byte if outcome.record else None,
        held_out_bytes=outcome.record.data_bytes if outcome.record else 0,
        training_bits_per_byte=outcome.mean_loss,
        gate=outcome.gate,
        interrupted=trainer.interrupted,
    )
    if not result.interrupted:
        run.write_report(_report(result) | {"device": describe(trainer.device)})
    return result


class _Outcome(Callback):
    """Keeps what the result is made of."""

    def __init__(self) -> None:
        self.record: EvaluationRecord | None = None
        self.gate: dict[str, Any] = {}
        self._losses: deque[float] = deque(maxlen=_LAST_STEPS)

    @property
    def mean_loss(self) -> float | None:
        return sum(self._losses) / len(self._losses) if self._losses else None

    def on_step_end(self, trainer: RunningTrainer, record: StepRecord) -> None:
        self._losses.append(record.loss)

    def on_evaluation(self, trainer: RunningTrainer, record: EvaluationRecord) -> None:
        self.record = record


def _trainer(
    config: RunConfig, model: BitTransformerLM, dataset: Dataset, callbacks: list[Callback]
) -> Trainer:
    loader = dataset.loader(
        config.train.batch_size // config.train.accumulate,
        parity=config.model.parity,
        seed=config.train.seed,
    )
    optimizer = build_optimizer(model.network, config.optimizer)
    objective: Objective = regularized(config.regularizers)
    if config.run_length.active:
        objective = RunLengthObjective(objective, config.run_length)
        callbacks = [RunLengthRamp(objective, config.run_length), *callbacks]
    return Trainer(model.network, objective, loader, optimizer, config.train, callbacks)


def _callbacks(
    config: RunConfig, run: RunFolder, dataset: Dataset, outcome: _Outcome, *, progress: bool
) -> list[Callback]:
    """In the order in which they hear of each moment: guards first, what saves and draws last."""
    train = config.train
    recovers = train.max_recoveries > 0
    beside: list[Callback] = [
        Recovery(train.recovery_every, train.max_recoveries) if recovers else NaNGuard()
    ]
    if progress:
        # The gate's windows do not overlap, so that a byte costs half of what evaluating it does.
        beside.append(ProgressBar(dataset.held_out_size * (1 + SHARE_READ / 2)))
    beside.append(MetricsLog(run.metrics))
    if train.telemetry_every:
        beside.append(TelemetryReader(train.telemetry_every))
    beside.append(Evaluation(dataset.held_out_bytes, train.evaluate_every, train.evaluate_bytes))
    if train.patience:
        beside.append(EarlyStop(train.patience))
    if train.tensorboard:
        beside.append(TensorBoardWriter(run.path / "tensorboard"))
    if train.trackio:
        beside.append(TrackioWriter(run.path.name, config.to_dict()))
    with waiting("reading the data"):
        identity: dict[str, Any] = {"data": dataset.corpus.fingerprint()}
    beside.append(GateCalibration(dataset.held_out_bytes, identity, outcome.gate))
    beside.append(
        Checkpoints(run.checkpoints, train.checkpoint_every, train.keep_checkpoints, identity)
    )
    if can_plot():
        beside.append(Plots(run.metrics, run.picture))
    return beside


def _restore(trainer: Trainer, model: BitTransformerLM, path: Path, dataset: Dataset) -> None:
    checkpoint = load_checkpoint(path, training=True)
    if checkpoint.training_state is None:
        raise CheckpointNotFoundError(
            f"{path} holds weights for inference only; train a new run or name one with its state"
        )
    if checkpoint.metadata.get("data") != dataset.corpus.fingerprint():
        raise CheckpointMismatchError(
            f"{path} was trained on other bytes: the data has changed since, so going on would mix "
            "two corpora; restore the data or train a new run"
        )
    load_weights(model.network, checkpoint.weights, where=path)
    trainer.load_state_dict(checkpoint.training_state)


def _training_flops(config: RunConfig, done: Progress) -> float:
    """Of all passes and, with Muon, of its orthogonalisations."""
    passes = done.data_bytes * training_flops_per_byte(config.model, config.window_bytes)
    muon = config.optimizer.optimizer == "muon"
    return passes + muon * done.step * muon_flops_per_step(config.model)


def _report(result: RunResult) -> dict[str, Any]:
    return {
        one.name: getattr(result, one.name)
        for one in dataclasses.fields(result)
        if one.name not in ("folder", "model", "interrupted")
    }
