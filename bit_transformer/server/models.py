"""Loaded models, and slots to compute with them."""

import copy
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
from bit_transformer.errors import CheckpointNotFoundError, ConfigError, QueueFullError, require
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.config import ModelConfig
from bit_transformer.network_spec import NetworkSpec
from bit_transformer.server.mixing import MixerStore
from bit_transformer.server.settings import Limits
from bit_transformer.training.memory_estimate import estimate_inference
from bit_transformer.training.run_folder import RunFolder

_MAX_LAYERS, _MAX_WIDTH, _MAX_CONTEXT = 1024, 1 << 16, 1 << 32
"""At larger values the estimate of the model's size itself could overflow."""


class ModelStore:
    """The newest models of the runs used last, in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.mixers = MixerStore(limits)
        """The saved context mixers of the runs used last."""
        self._loaded: OrderedDict[tuple[Path, int], BitTransformerLM] = OrderedDict()
        self._guard = threading.Lock()
        self._compute_slots = threading.BoundedSemaphore(limits.computing)
        self._request_slots = threading.BoundedSemaphore(limits.computing + limits.waiting)

    @contextmanager
    def computing(self, run: RunFolder) -> Iterator[BitTransformerLM]:
        """Context with the newest model of a run and a slot to compute with it, without gradients.

        All requests share the model, so they must not change it; see `observing` for hooks.
        Raises `QueueFullError` if too many requests compute, `CheckpointError` if there is no
        model to load, and `ConfigError` if it is too large.
        """
        with self.compute_slot(), torch.no_grad():
            yield self._model(run)

    @contextmanager
    def observing(self, run: RunFolder) -> Iterator[BitTransformerLM]:
        """`computing` with a model whose modules may get hooks, see `with_own_modules`."""
        with self.computing(run) as shared:
            yield with_own_modules(shared)

    @contextmanager
    def request_slot(self) -> Iterator[None]:
        """Context that counts a request which computes or waits for it; raises `QueueFullError`.

        Each of these requests holds a thread, so their number is limited.
        """
        if not self._request_slots.acquire(blocking=False):
            raise QueueFullError(
                f"{self._limits.computing} requests compute and {self._limits.waiting} wait, which "
                "is the limit (--computing, --waiting); try again later"
            )
        try:
            yield
        finally:
            self._request_slots.release()

    @contextmanager
    def compute_slot(self) -> Iterator[None]:
        """Context with a slot to compute; raises `QueueFullError` if none gets free in time."""
        if not self._compute_slots.acquire(timeout=self._limits.wait_seconds):
            raise QueueFullError(
                f"{self._limits.computing} requests compute already (--computing) and none ended "
                f"within {self._limits.wait_seconds:.0f} s; try again later"
            )
        try:
            yield
        finally:
            self._compute_slots.release()

    def settings(self, run: RunFolder) -> dict[str, Any]:
        """Return the settings of a run's model, with `quantization` if it is quantized."""
        folder = _checkpoint_of(run)
        if folder is None:
            return run.config().model.to_dict()
        spec = NetworkSpec.from_dict(read_manifest(folder)["config"])
        scheme = {} if spec.quantization is None else {"quantization": spec.quantization}
        return spec.model.to_dict() | scheme

    def require_checkpoint(self, run: RunFolder) -> None:
        """Raise `CheckpointNotFoundError` if a run has not saved a checkpoint yet."""
        if _checkpoint_of(run) is None:
            raise CheckpointNotFoundError(f"{run.path.name} has no checkpoint yet; train it first")

    def verify(self, folder: Path) -> None:
        """Raise `CheckpointError` or `ConfigError` unless the checkpoint folder can be used."""
        with self.compute_slot():
            self._load(folder)

    def _model(self, run: RunFolder) -> BitTransformerLM:
        folder = _checkpoint_of(run)
        marker = run.path / "config.json" if folder is None else folder / MANIFEST
        # The time tells a checkpoint from a later one at the same path.
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


def with_own_modules(model: BitTransformerLM) -> BitTransformerLM:
    """Return a model with modules of its own and the same weights, which are not copied.

    Telemetry observes a network through hooks of its modules. Requests compute at the same time, so
    hooks on the shared modules would also observe the passes of other requests.
    """
    tensors = (*model.parameters(), *model.buffers())
    # `deepcopy` takes the objects in this memo as they are.
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def trained_steps(run: RunFolder) -> int:
    """Return the number of training steps of a run's newest model."""
    folder = _checkpoint_of(run)
    return 0 if folder is None else saved_step(read_manifest(folder)["metadata"])


def saved_step(metadata: Mapping[str, Any]) -> int:
    """Return the step of a checkpoint; 0 if an imported one holds something else there."""
    step = metadata.get("step")
    return step if isinstance(step, int) else 0


def _checkpoint_of(run: RunFolder) -> Path | None:
    """Return the newest checkpoint, or None if the run has not saved one yet."""
    try:
        return locate_checkpoint(run.path)
    except CheckpointNotFoundError:
        if run.exists():
            return None
        raise


def _untrained(run: RunFolder) -> BitTransformerLM:
    """Return the model that a run starts with."""
    config = run.config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return BitTransformerLM.from_config(config.model).eval()


def check_model_size(model: ModelConfig, limits: Limits) -> int:
    """Return the bytes of a model's weights; raises `ConfigError` above the limits."""
    for names, limit in (
        (("num_layers",), _MAX_LAYERS),
        (("d_model", "dim_feedforward", "memory_width"), _MAX_WIDTH),
        (("max_seq_len",), _MAX_CONTEXT),
    ):
        for name in names:
            value = getattr(model, name)
            require(value <= limit, name, value, f"at most {limit}")
    weights = weight_bytes(model)
    _require_size(weights, limits.model_bytes)
    return weights


def weight_bytes(model: ModelConfig) -> int:
    """Return the bytes of a model's weights in float32."""
    # All blocks have the same size, so two layers are enough to know the size of any depth.
    one, two = (
        estimate_inference(dataclasses.replace(model, num_layers=layers))[0] for layers in (1, 2)
    )
    return one + (model.num_layers - 1) * (two - one)


def _require_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ConfigError(
            f"the weights of a model must have at most {max_bytes:,} bytes (--model-bytes), got "
            f"{size:,}; make the model smaller"
        )
