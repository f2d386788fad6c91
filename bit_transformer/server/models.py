"""Loaded models, and turns to compute with them."""

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bit_transformer.checkpoint.format import MANIFEST, files_of, read_manifest
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.errors import CheckpointNotFoundError, ConfigError, QueueFullError
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.config import ModelConfig
from bit_transformer.network_spec import NetworkSpec
from bit_transformer.server.settings import Limits
from bit_transformer.training.memory_estimate import estimate_inference
from bit_transformer.training.run_folder import RunFolder

_MOST_LAYERS, _WIDEST, _LONGEST = 1024, 1 << 16, 1 << 32
"""Beyond these shapes do not even have a size that could be named."""


class ModelStore:
    """The newest checkpoints of the runs asked for last, in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loaded: OrderedDict[tuple[Path, int], BitTransformerLM] = OrderedDict()
        self._guard = threading.Lock()
        self._turns = threading.BoundedSemaphore(limits.computing)
        self._places = threading.BoundedSemaphore(limits.computing + limits.waiting)

    @contextmanager
    def computing(self, run: RunFolder) -> Iterator[BitTransformerLM]:
        """The newest model of a run and the right to compute with it, without gradients.

        Raises `QueueFullError` when too many others compute, `CheckpointError` when there is none
        to load, `ConfigError` for one that is too large.
        """
        with self.turn(), torch.no_grad():
            yield self._model(run)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among those who compute or wait for their turn, without waiting.

        Raises `QueueFullError` when all are taken. Each one holds a thread, so their number is
        bounded.
        """
        if not self._places.acquire(blocking=False):
            raise QueueFullError(
                f"{self._limits.computing} requests compute and {self._limits.waiting} wait for "
                "their turn already, the most that may (--computing, --waiting); try again later"
            )
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The right to compute; raises `QueueFullError` when it does not come in time."""
        if not self._turns.acquire(timeout=self._limits.wait_seconds):
            raise QueueFullError(
                f"{self._limits.computing} requests compute already and none ended within "
                f"{self._limits.wait_seconds:.0f} s; try again later"
            )
        try:
            yield
        finally:
            self._turns.release()

    def settings(self, run: RunFolder) -> dict[str, Any]:
        """Settings of a run's model, with its `quantization` where it has one."""
        folder = _checkpoint_of(run)
        if folder is None:
            return run.config().model.to_dict()
        spec = NetworkSpec.from_dict(read_manifest(folder)["config"])
        scheme = {} if spec.quantization is None else {"quantization": spec.quantization}
        return spec.model.to_dict() | scheme

    def require_checkpoint(self, run: RunFolder) -> None:
        """Raise `CheckpointNotFoundError` for a run that has not saved one yet."""
        if _checkpoint_of(run) is None:
            raise CheckpointNotFoundError(f"{run.path.name} has no checkpoint yet; train it first")

    def verify(self, folder: Path) -> None:
        """Raise `CheckpointError` or `ConfigError` unless this checkpoint folder can be used."""
        with self.turn():
            self._load(folder)

    def _model(self, run: RunFolder) -> BitTransformerLM:
        folder = _checkpoint_of(run)
        marker = run.path / "config.json" if folder is None else folder / MANIFEST
        key = (marker, marker.stat().st_mtime_ns)
        with self._guard:
            if key not in self._loaded:
                while len(self._loaded) >= self._limits.models:
                    self._loaded.popitem(last=False)
                self._loaded[key] = _untrained(run) if folder is None else self._load(folder)
            self._loaded.move_to_end(key)
            return self._loaded[key]

    def _load(self, folder: Path) -> BitTransformerLM:
        manifest = read_manifest(folder)
        size = sum(entry["size"] for entry in files_of(manifest, "weights").values())
        _require_size(size, self._limits.model_bytes)
        check_model_size(NetworkSpec.from_dict(manifest["config"]).model, self._limits)
        return BitTransformerLM.from_pretrained(folder)


def trained_steps(run: RunFolder) -> int:
    """Steps behind the newest model of a run."""
    folder = _checkpoint_of(run)
    return 0 if folder is None else saved_step(read_manifest(folder)["metadata"])


def saved_step(metadata: Mapping[str, Any]) -> int:
    """The step of a checkpoint; one that was brought in may say anything."""
    step = metadata.get("step")
    return step if isinstance(step, int) else 0


def _checkpoint_of(run: RunFolder) -> Path | None:
    """The newest checkpoint; None for a run that has not saved one yet."""
    try:
        return locate_checkpoint(run.path)
    except CheckpointNotFoundError:
        if run.exists():
            return None
        raise


def _untrained(run: RunFolder) -> BitTransformerLM:
    """The model that a run begins with."""
    config = run.config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return BitTransformerLM.from_config(config.model).eval()


def check_model_size(model: ModelConfig, limits: Limits) -> int:
    """Bytes of a model's weights, without making them; `ConfigError` when the server takes none
    so large."""
    for names, most in (
        (("num_layers",), _MOST_LAYERS),
        (("d_model", "dim_feedforward", "memory_width"), _WIDEST),
        (("max_seq_len",), _LONGEST),
    ):
        for name in names:
            if getattr(model, name) > most:
                raise ConfigError(f"{name} must be at most {most}, got {getattr(model, name)}")
    weights = weight_bytes(model)
    _require_size(weights, limits.model_bytes)
    return weights


def weight_bytes(model: ModelConfig) -> int:
    """Bytes of the weights of a model in float32: all blocks are alike."""
    one, two = (
        estimate_inference(dataclasses.replace(model, num_layers=layers))[0] for layers in (1, 2)
    )
    return one + (model.num_layers - 1) * (two - one)


def _require_size(size: int, most: int) -> None:
    if size > most:
        raise ConfigError(
            f"the weights take {size:,} bytes and this server takes at most {most:,} "
            "(--model-bytes); make the model smaller"
        )
