"""Builds a run from its settings and trains it. `_train` has the steps in their order."""

import dataclasses
import logging
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import torch

from bit_transformer.atomic import atomic_write_bytes
from bit_transformer.checkpoint.format import load_checkpoint
from bit_transformer.data.config import DataConfig
from bit_transformer.data.sources import absolute_source
from bit_transformer.device import pick_device
from bit_transformer.distributed.config import ParallelConfig
from bit_transformer.distributed.parallelize import parallelize
from bit_transformer.distributed.world import World
from bit_transformer.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    NothingLearnedError,
    UnsupportedCombination,
)
from bit_transformer.lm import BitTransformerLM
from bit_transformer.network_spec import NetworkSpec, build_network, load_weights
from bit_transformer.objectives.build import build_objective
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.quantization import prepare_qat_fx, require_trainable, scheme_of
from bit_transformer.training.callback_list import build_callbacks
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.config import (
    CheckpointConfig,
    EvaluationConfig,
    OptimizerConfig,
    RecoveryConfig,
    RunConfig,
    TrainConfig,
)
from bit_transformer.training.memory_estimate import fit_into_budget
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.result import Outcome, RunResult, write_report
from bit_transformer.training.run_folder import RunFolder
from bit_transformer.training.trainer import Trainer
from bit_transformer.waiting import waiting

_ONE_PROCESS = World()
_log = logging.getLogger(__name__)


def train_run(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    world: World = _ONE_PROCESS,
) -> RunResult:
    """Train a new model as `config` says into the run folder `out`, or resume the run in it.

    A resumed run has the same batches, dropout masks and learning rates as one that was never
    interrupted. Sources are recorded as absolute paths, so that a run can be resumed from any
    working directory.

    Raises `BusyError`, and changes nothing, while another process writes in the run folder.
    """
    run = RunFolder(out)
    if resume:
        # This comes before the lock, which would create a folder that does not hold a run.
        run.config()
    with run.starting():
        checkpoint = run.checkpoints.latest(training=True) if resume else None
        if not resume:
            run.require_new()
        elif run.config().model != config.model:
            raise CheckpointMismatchError(
                f"{out} holds a run of another configuration, but the model settings of a run "
                "cannot change; leave them out to resume it, or train a new run with --out"
            )
        sources = tuple(map(absolute_source, config.data.sources))
        data = dataclasses.replace(config.data, sources=sources)
        config = fit_into_budget(dataclasses.replace(config, data=data))
        torch.manual_seed(config.train.seed)
        spec = NetworkSpec(config.model, "int4-qat" if config.train.qat else None)
        model = BitTransformerLM(network=build_network(spec))
        return _train(config, run, model, checkpoint, callbacks, world, progress=progress)


class Sections(TypedDict, total=False):
    """Settings of a run that `fit` takes by name, besides `train`."""

    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    evaluation: EvaluationConfig
    checkpoints: CheckpointConfig
    recovery: RecoveryConfig
    parallel: ParallelConfig


def fit(
    model: BitTransformerLM,
    data: bytes | str | Path | Sequence[str | Path],
    train: TrainConfig | None = None,
    *,
    held_out_fraction: float = 0.05,
    out: str | Path | None = None,
    progress: bool = True,
    callbacks: Iterable[Callback] = (),
    **sections: Unpack[Sections],
) -> RunResult:
    """Train `model` in place on bytes, or on files, folders and globs. The result holds the same
    model.

    `sections` are other settings of `RunConfig`, such as `evaluation=EvaluationConfig(...)`. An
    `objective` among them replaces the model's own. `out` names the run folder; by default it is a
    new one under the system's temporary folder. A run that learned nothing ends with a warning;
    `RunResult.require_learned` raises.

    Raises `BusyError` while another process writes in the run folder.
    """
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="bit-transformer-"))
    run = RunFolder(folder)
    sections.setdefault("objective", model.objective)
    with run.starting():
        run.require_new()
        if isinstance(data, bytes):
            atomic_write_bytes(run.given_bytes, data)
            data = run.given_bytes
        paths = (data,) if isinstance(data, str | Path) else tuple(data)
        sources = tuple(absolute_source(str(path)) for path in paths)
        config = RunConfig(
            data=DataConfig(sources, held_out_fraction=held_out_fraction),
            model=model.config,
            train=train or TrainConfig(),
            **sections,
        )
        config = fit_into_budget(_with_model_options(config, model))
        if config.train.qat and scheme_of(model) is None:
            prepare_qat_fx(model)
        result = _train(config, run, model, None, callbacks, _ONE_PROCESS, progress=progress)
    try:
        result.require_learned()
    except NothingLearnedError as error:
        _log.warning("%s", error)
    return result


def _with_model_options(config: RunConfig, model: BitTransformerLM) -> RunConfig:
    """The settings with the checkpointing and autocast that the model was built with.

    Raises `UnsupportedCombination` for weights that are not float32.
    """
    if model.dtype != torch.float32:
        raise UnsupportedCombination(
            f"fit needs float32 weights, got {model.dtype}; call model.float() first, and use "
            "TrainConfig(precision='bf16') for products in bfloat16"
        )
    train, parallel = config.train, config.parallel
    if model.use_autocast and train.precision == "auto":
        train = dataclasses.replace(train, precision="bf16")
    if model.use_checkpoint:
        parallel = dataclasses.replace(parallel, use_checkpoint=True)
    return dataclasses.replace(config, train=train, parallel=parallel)


def _train(
    config: RunConfig,
    run: RunFolder,
    model: BitTransformerLM,
    checkpoint: Path | None,
    callbacks: Iterable[Callback],
    world: World,
    *,
    progress: bool,
) -> RunResult:
    """Every step of a run after its network is built, in order.

    The optimizer and the weight average are bound to weights, so they come after `parallelize`.
    The state of a resumed run is restored last, into everything that has a state.
    """
    require_trainable(model)
    network = model.to(pick_device(config.train.device)).network
    parallelize(network, config.parallel)
    optimizer = build_optimizer(network, config.optimizer)
    objective = build_objective(config.objective)
    with waiting("reading the data"):
        dataset = run.dataset(config)
        fingerprint = dataset.corpus.fingerprint()
    loader = dataset.loader(
        config.train.batch_size // config.train.accumulate,
        parity=config.model.parity,
        seed=config.train.seed,
        rank=world.rank,
        world_size=world.size,
    )
    outcome = Outcome()
    built = build_callbacks(config, run, dataset, progress=progress)
    trainer = Trainer(
        *(network, objective, loader, optimizer, config.train),
        callbacks=[*built, outcome, *callbacks],
        world=world,
    )
    trainer.metadata["data"] = fingerprint
    # The run begins here. If an error came before, `RunFolder.starting` removes the copies of data.
    if not run.exists():
        run.record_new(config)
    else:
        if checkpoint is not None:
            _restore(trainer, checkpoint)
        run.resume(config)
    model.objective = config.objective
    done = trainer.fit()
    trainer.average.keep()
    result = outcome.result(*(config, run, model.eval(), done), interrupted=trainer.interrupted)
    if not result.interrupted:
        write_report(run, result)
    return result


def _restore(trainer: Trainer, path: Path) -> None:
    checkpoint = load_checkpoint(path, training=True)
    if checkpoint.training_state is None:
        raise CheckpointNotFoundError(
            f"{path} holds only weights for inference and cannot be resumed; train a new run, or "
            "name a checkpoint of a run"
        )
    if checkpoint.metadata.get("data") != trainer.metadata["data"]:
        raise CheckpointMismatchError(
            f"{path} was trained on other bytes, so resuming would mix two corpora; restore the "
            "data or train a new run"
        )
    if checkpoint.objective != trainer.objective.name:
        raise CheckpointMismatchError(
            f"{path} was trained for the objective {checkpoint.objective!r}, but this run has "
            f"{trainer.objective.name!r}; resume with the checkpoint's objective, or train a new "
            "run"
        )
    # The weights of the checkpoint are the averaged ones. Where a run averages, its training state
    # has the unaveraged weights and replaces them.
    load_weights(trainer.network, checkpoint.weights, where=path)
    trainer.load_state_dict(checkpoint.training_state)
