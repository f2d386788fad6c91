"""Estimates the memory that a run needs, before anything is allocated.

The real network, objective and optimizers do one step on fake tensors, which have shapes and
storages but no memory. The estimate is the size of the live storages, so features need no formulas
of their own. A constant covers the workspace of kernels, which fake tensors do not show. Penalties
on K, C and S are not counted.
"""

import contextlib
import dataclasses
import math
import os
import sys
import weakref
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bit_transformer.distributed.parallelize import parallelize
from bit_transformer.errors import ConfigError
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.build import build_objective
from bit_transformer.training.config import RunConfig, parse_bytes
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.precision import autocast

_RECOVERY_STATES = 2
_KERNEL_BYTES = 12 << 20
"""Workspace of kernels: `benchmarks/bench_memory.py` measures 3 to 24 MiB."""
_FEW_LAYERS = 8
"""Deeper networks are extrapolated from two shallow ones."""
_STATES = 12
"""Most copies of the weights in a run: gradients, moments, average, two recovery states."""
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of training in bytes, on one device."""

    parameters: int
    gradients: int
    """Gradients of the weights. The memory tables have them only for looked-up rows."""
    optimizer: int
    activations: int
    """Activations stored between the forward and the backward pass of one micro-batch."""
    copies: int
    """The averaged weights, and the states that recovery can return to."""
    peak: int
    """The highest need at any moment of a step. It includes all of the above."""


def estimate_training(config: RunConfig) -> MemoryEstimate:
    """Estimate the memory of a run's steps, with its batch size and accumulation."""
    train = config.train
    bits = config.window_bytes * config.model.bits_per_byte
    with FakeTensorMode(), _LiveBytes() as live:
        network = BitTransformer(config.model)
        # Compilation changes no size that is counted here.
        parallelize(network, dataclasses.replace(config.parallel, compile=False))
        parameters = _bytes_of(network)
        batch = torch.zeros(train.batch_size // train.accumulate, bits, dtype=torch.uint8)
        optimizer = build_optimizer(network, config.optimizer)
        before = live.now
        with autocast("cpu", train.precision):
            loss = build_objective(config.objective).code_length(network.train(), batch)
        activations = live.now - before
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
        gradients, peak_of_passes = live.now - before, live.peak
        _step_dense(optimizer.parts)
        states = live.now - before - gradients
        peak_of_step = live.peak
    sparse = 2 * _table_bytes(network)
    copies = parameters * (train.weight_average > 0)
    if config.recovery.max_recoveries:
        copies += _RECOVERY_STATES * (parameters + states + sparse)
    return MemoryEstimate(
        parameters=parameters,
        gradients=gradients,
        optimizer=states + sparse,
        activations=activations,
        copies=copies,
        # From the second step on, the optimizer state also exists during the passes.
        peak=max(peak_of_step, peak_of_passes + states) + sparse + copies + _KERNEL_BYTES,
    )


def estimate_inference(model: ModelConfig, batch_size: int = 1) -> tuple[int, int]:
    """Bytes of the weights, and of the cache for `batch_size` sequences of any length."""
    with FakeTensorMode():
        network = BitTransformer(model)
        cache = network.new_cache(batch_size)
        stores = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        table = 0 if cache.leaf_table is None else cache.leaf_table.nbytes
        return _bytes_of(network), stores + table + cache.recent.nbytes


def fit_into_budget(config: RunConfig) -> RunConfig:
    """The run with the fewest micro-batches per step that fit into its `memory_budget`.

    Without a budget the run is returned unchanged. Raises `ConfigError` when even one window at a
    time does not fit, or when `require_memory` raises.
    """
    train = config.train
    if train.memory_budget is None:
        require_memory(config)
        return config
    budget = parse_bytes(train.memory_budget)
    counts = [n for n in _divisors(train.batch_size) if n >= train.accumulate]
    need = _need(_with_accumulate(config, counts[-1]), budget)
    if need > budget:
        raise ConfigError(
            f"memory_budget={train.memory_budget} is not enough: one window at a time needs "
            f"{_size(need)}; use a smaller preset, a lower window_bytes, "
            "--reversible or --use-checkpoint, or raise the budget"
        )
    # More micro-batches never need more memory, so bisection finds the first count that fits.
    first = bisect_left(
        counts, True, key=lambda n: _need(_with_accumulate(config, n), budget) <= budget
    )
    chosen = _with_accumulate(config, counts[first])
    require_memory(chosen)
    return chosen


def require_memory(config: RunConfig, available: int | None = None) -> None:
    """Raise `ConfigError` when the steps of a run cannot fit into `available` bytes, by default the
    memory of this machine.

    Nothing is allocated, and the check takes seconds at most. A run that fits by a rough upper
    bound skips the estimate.
    """
    most = _machine_bytes(config.train.device) if available is None else available
    if _rough_need(config) <= most:
        return
    need = _need(config, most)
    if need > most:
        train = config.train
        raise ConfigError(
            f"a step of this run needs {_size(need)} of memory and there are {_size(most)}: "
            f"batch_size={train.batch_size:,} in accumulate={train.accumulate:,} micro-batches, "
            f"d_model={config.model.d_model:,}, num_layers={config.model.num_layers:,}, "
            f"windows of {config.window_bytes:,} bytes; lower one of these, raise accumulate, or "
            "set memory_budget, which chooses accumulate"
        )


def _rough_need(config: RunConfig) -> int:
    """An upper bound of the run's need, from products of its sizes alone."""
    model, train = config.model, config.train
    widths = 4 * model.d_model + 2 * model.dim_feedforward
    weights = model.num_layers * model.d_model * widths
    weights += (2 << model.patch_size) * model.d_model * 2
    rows = model.memory_slots + model.d_model
    weights += len(model.memory_bits) * rows * model.memory_width
    patches = config.window_bytes * model.bits_per_byte // model.patch_size + 1
    windows = train.batch_size // train.accumulate
    attended = patches if model.chunk_size is None else 2 * model.chunk_size
    each = model.num_layers * (8 * widths + model.nhead * attended) + (8 << model.patch_size)
    return 4 * (_STATES * weights + windows * patches * each) + _KERNEL_BYTES


def _need(config: RunConfig, most: int) -> int:
    """Peak bytes of a step. Sizes beyond 64 bits give some number above `most`."""
    layers = config.model.num_layers
    try:
        if layers <= _FEW_LAYERS:
            return estimate_training(config).peak
        # All blocks have the same size, and hundreds of them take long to build.
        few, more = (
            estimate_training(
                dataclasses.replace(config, model=dataclasses.replace(config.model, num_layers=n))
            ).peak
            for n in (_FEW_LAYERS // 2, _FEW_LAYERS)
        )
    except (RuntimeError, OverflowError) as error:
        # A size beyond 64 bits, which a tensor cannot have.
        if "overflow" not in str(error).lower():
            raise
        return max(most + 1, sys.maxsize)
    each = (more - few) // (_FEW_LAYERS - _FEW_LAYERS // 2)
    return more + (layers - _FEW_LAYERS) * each


def _machine_bytes(device: str) -> int:
    """Memory of the GPU that the run would use. Without one, of this machine or its container."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(limit.read_text()))
    return min(sizes)


def _with_accumulate(config: RunConfig, accumulate: int) -> RunConfig:
    return dataclasses.replace(
        config, train=dataclasses.replace(config.train, accumulate=accumulate)
    )


def _divisors(number: int) -> list[int]:
    """All divisors of a number, ascending."""
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def _size(number: int) -> str:
    """A number of bytes as text, such as `12 MiB`."""
    if number >= sys.maxsize:
        return "more than 8 EiB"
    unit = min(max((number.bit_length() - 1) // 10, 2), 6)
    return f"{number / 2 ** (10 * unit):,.0f} {'KMGTPE'[unit - 1]}iB"


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the bytes of all live storages, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), settings: Any = None
    ) -> Any:
        result = function(*arguments, **(settings or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = weakref.finalize(storage, self._forget, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size


def _step_dense(parts: dict[str, Any]) -> None:
    """Step all optimizers except that of the memory tables, which depends on the data."""
    for name, part in parts.items():
        if name != "memory":
            part.step()


def _bytes_of(network: nn.Module) -> int:
    return sum(weight.nbytes for weight in (*network.parameters(), *network.buffers()))


def _table_bytes(network: BitTransformer) -> int:
    return 0 if network.memory is None else network.memory.rows.weight.nbytes
