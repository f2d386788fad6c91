"""What a run will need in memory, before anything is allocated.

The real network, objective and optimizers run one step on fake tensors, which have shapes and
storages but no memory, while the live storages are counted. So every feature is counted as it is,
not by a formula of its own. What kernels hold inside is not seen, and a small allowance made for
it; penalties on K, C and S are not counted.
"""

import dataclasses
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bit_transformer.distributed.activation_checkpoint import checkpoint_blocks
from bit_transformer.errors import ConfigError
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.next_bit import next_bit_loss
from bit_transformer.training.config import RunConfig, parse_bytes
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.precision import autocast

_RECOVERY_STATES = 2
_KERNEL_BYTES = 12 << 20
"""What kernels hold inside: 3 to 24 MiB in `benchmarks/bench_memory.py`."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, of one device."""

    parameters: int
    gradients: int
    """Of the weights; those of the memory table only for the rows that a step looks up."""
    optimizer: int
    activations: int
    """Held between the forward and the backward pass of one micro-batch."""
    copies: int
    """The averaged weights, and the states that a run could return to."""
    peak: int
    """The most that is needed at any moment of a step, all of the above included."""


def estimate_training(config: RunConfig) -> MemoryEstimate:
    """What the steps of a run need, with its batch size and accumulation."""
    train = config.train
    bits = config.window_bytes * config.model.bits_per_byte
    with FakeTensorMode(), _LiveBytes() as live:
        network = BitTransformer(config.model)
        if train.use_checkpoint:
            checkpoint_blocks(network)
        parameters = _bytes_of(network)
        batch = torch.zeros(train.batch_size // train.accumulate, bits, dtype=torch.uint8)
        optimizer = build_optimizer(network, config.optimizer)
        before = live.now
        with autocast("cpu", train.precision):
            loss = next_bit_loss(network.train(), batch)
        activations = live.now - before
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
        gradients, of_passes = live.now - before, live.peak
        _step_dense(optimizer.parts)
        states = live.now - before - gradients
        of_step = live.peak
    sparse = 2 * _table_bytes(network)
    copies = parameters * (train.weight_average > 0)
    if train.max_recoveries:
        copies += _RECOVERY_STATES * (parameters + states + sparse)
    return MemoryEstimate(
        parameters=parameters,
        gradients=gradients,
        optimizer=states + sparse,
        activations=activations,
        copies=copies,
        # From the second step on, the optimizers' states are there during the passes too.
        peak=max(of_step, of_passes + states) + sparse + copies + _KERNEL_BYTES,
    )


def estimate_inference(model: ModelConfig, batch_size: int = 1) -> tuple[int, int]:
    """Bytes of weights, and of the cache of so many sequences of any length."""
    with FakeTensorMode():
        network = BitTransformer(model)
        cache = network.new_cache(batch_size)
        stores = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
        table = 0 if cache.leaf_table is None else cache.leaf_table.nbytes
        return _bytes_of(network), stores + table + cache.recent.nbytes


def fit_into_budget(config: RunConfig) -> RunConfig:
    """The same run with as few micro-batches per step as fit into its `memory_budget`; without one
    it stays as it is.

    Raises `ConfigError` when one window at a time is still too much.
    """
    train = config.train
    if train.memory_budget is None:
        return config
    budget, need = parse_bytes(train.memory_budget), 0
    for accumulate in range(train.accumulate, train.batch_size + 1):
        if train.batch_size % accumulate:
            continue
        smaller = dataclasses.replace(
            config, train=dataclasses.replace(train, accumulate=accumulate)
        )
        need = estimate_training(smaller).peak
        if need <= budget:
            return smaller
    raise ConfigError(
        f"memory_budget={train.memory_budget} is not enough: one window at a time needs "
        f"{need / 2**20:,.0f} MiB; use a smaller preset or shorter window_bytes, "
        "--reversible or --use-checkpoint, or raise the budget"
    )


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that are alive, and the most that ever were."""

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
    """All optimizers but that of the sparse table, whose rows depend on the data."""
    for name, part in parts.items():
        if name != "memory":
            part.step()


def _bytes_of(network: nn.Module) -> int:
    return sum(weight.nbytes for weight in (*network.parameters(), *network.buffers()))


def _table_bytes(network: BitTransformer) -> int:
    return 0 if network.memory is None else network.memory.rows.weight.nbytes
