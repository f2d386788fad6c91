"""A trained network in the codec's arithmetic: it reads a patch of every lane at a time.

`lane_arithmetic` computes in float32 on the CPU, whatever precision the network was trained in, and
weights of 8 and 4 bits are converted to it. Attention reads a ring buffer of the newest positions,
so lanes may have any length. Every position runs through all layers, even where adaptive
computation would exit early.
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor, nn

from bit_transformer.checkpoint.migrate import former_name
from bit_transformer.compression.lane_arithmetic import LaneState, Weights, scaled_log_odds, step
from bit_transformer.compression.network import Trunk
from bit_transformer.errors import UnsupportedCombination
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.halting import HaltingStack
from bit_transformer.model.stack import PlainStack, ReversibleStack
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.network_spec import spec_of
from bit_transformer.quantization import Int4Linear, Int8Embedding, Int8Linear

_STACKS = (PlainStack, ReversibleStack, HaltingStack)
"""Kinds of stack that this arithmetic computes. A subclass may compute something else."""


def network_digest(network: BitTransformer) -> bytes:
    """Return the SHA-256 of the configuration and of every weight's name, dtype, shape and value.

    Settings at their default are left out. A setting that is added later, with a default that
    changes nothing, then leaves the digests of older networks as they are. The ponder cost is left
    out because it only matters in training.
    """
    default = ModelConfig().to_dict()
    default["ponder_cost"] = network.config.ponder_cost
    own = {name: v for name, v in network.config.to_dict().items() if v != default[name]}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    weights = {former_name(name): tensor for name, tensor in network.state_dict().items()}
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()


class LaneNetwork:
    """A network's weights, which the lanes of any block can share; see `network.Network`."""

    def __init__(self, network: BitTransformer, *, threads: int = 1) -> None:
        """The lanes are divided among `threads`, which does not change any result.

        Raises `UnsupportedCombination` for a pruned network, and for a kind of stack that this
        arithmetic does not compute.
        """
        if type(network.stack) not in _STACKS:
            raise UnsupportedCombination(
                f"compression does not compute a {type(network.stack).__name__}, only "
                f"{', '.join(stack.__name__ for stack in _STACKS)}; compress without a model, or "
                "with a model that has one of these stacks"
            )
        if spec_of(network).layers is not None:
            raise UnsupportedCombination(
                "compression needs a network whose blocks have the widths of its configuration; "
                "compress without a model, or with the model before pruning"
            )
        self.config = network.config
        self.digest = network_digest(network)
        self.threads = threads
        self._weights = _weights_of(network)
        self._reversible = isinstance(network.stack, ReversibleStack)
        self._pool = ThreadPoolExecutor(threads)

    @property
    def patch_size(self) -> int:
        """Bits per patch."""
        return self.config.patch_size

    @property
    def bits_per_byte(self) -> int:
        """9 if the network reads parity bits, else 8."""
        return self.config.bits_per_byte

    def begin(self, lanes: int) -> "LaneReader":
        """Return a reader of this many lanes that has read the start position."""
        return LaneReader(self, lanes)

    def new_states(self, lanes: int) -> list[LaneState]:
        """Return the state of unread lanes, one for each thread that has lanes."""
        groups = min(self.threads, lanes)
        edges = [lanes * group // groups for group in range(groups + 1)]
        return [
            _new_state(self.config, self._weights, end - begin) for begin, end in pairwise(edges)
        ]

    def trunk_of(self, state: LaneState) -> Trunk:
        """Return the network with the state of its lanes, for compiled code."""
        return Trunk(self._weights, state, self._reversible, float(self.config.logit_cap))

    def read(
        self, states: list[LaneState], patches: Int64[np.ndarray, " L"], *, at_start: bool
    ) -> Int32[np.ndarray, "L nodes"]:
        """Read a patch of each lane; return the scaled log-odds at each node of the next patch."""
        out = np.empty((len(patches), self._weights.head.shape[1]), np.int32)
        ends = np.cumsum([len(state.first) for state in states])
        parts = list(zip(states, np.split(patches, ends), np.split(out, ends), strict=False))

        def run(part: tuple[LaneState, np.ndarray, np.ndarray]) -> None:
            state, own, found = part
            step(self._weights, state, own, at_start, self._reversible)
            scaled_log_odds(state, self.config.logit_cap, found)

        # The first part runs in this thread: a hand-over takes as long as a small step.
        others = [self._pool.submit(run, part) for part in parts[1:]]
        run(parts[0])
        for other in others:
            other.result()
        return out


class LaneReader:
    """The lanes of one block, as the network has read them; see `network.Reader`."""

    def __init__(self, network: LaneNetwork, lanes: int) -> None:
        self._network, self._states = network, network.new_states(lanes)
        self.log_odds = network.read(self._states, np.zeros(lanes, np.int64), at_start=True)
        """(L, nodes) scaled log-odds at each node of the next patch."""

    @property
    def trunk(self) -> Trunk | None:
        """The network for compiled code; None if several threads read the lanes."""
        return self._network.trunk_of(self._states[0]) if len(self._states) == 1 else None

    def read(self, patches: Int64[np.ndarray, " L"]) -> None:
        """Read one more patch of every lane."""
        self.log_odds = self._network.read(self._states, patches, at_start=False)


def _weights_of(network: BitTransformer) -> Weights:
    blocks, memory, width = list(network.stack), network.memory, network.config.d_model
    orders = 0 if memory is None else len(network.config.memory_orders)

    def stacked(matrices: Iterable[nn.Module]) -> np.ndarray:
        return np.stack([_columns(linear) for linear in matrices])

    return Weights(
        leaves=_leaves(_array(network.embedding.nodes), network.config.patch_size),
        root=_array(network.embedding.nodes)[1],
        multipliers=np.zeros((0, 0), np.int64) if memory is None else memory.multipliers.numpy(),
        rows=(
            np.zeros((0, 1, 0), np.float32)
            if memory is None
            else _rows(memory.rows).reshape(orders, memory.slots, -1)
        ),
        project_memory=(
            np.zeros((0, width), np.float32) if memory is None else _columns(memory.project)
        ),
        project_qkv=stacked(block.attention.project_qkv for block in blocks),
        project_out=stacked(block.attention.project_out for block in blocks),
        up_proj=stacked(block.feed_forward.up_proj for block in blocks),
        down_proj=stacked(block.feed_forward.down_proj for block in blocks),
        head=np.ascontiguousarray(_array(network.head.nodes).T),
        leaf_head=(
            np.zeros((width, 0), np.float32)
            if network.head.leaves is None
            else np.ascontiguousarray(_array(network.head.leaves).T)
        ),
        rotation=_rotation_of_one_position(network.config.head_width, network.config.rotary_base),
    )


def _array(tensor: Tensor) -> Float[np.ndarray, "*shape"]:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


def _rows(module: nn.Module) -> Float[np.ndarray, "rows columns"]:
    """Return a matrix or table in float32, also from weights of 8 and 4 bits."""
    if isinstance(module, Int8Linear):
        return _array(module.weight) * _array(module.scale)[:, None]
    if isinstance(module, Int8Embedding):
        return _array(module.weight) * _array(module.scale)
    assert isinstance(module, nn.Linear | nn.Embedding | Int4Linear)
    return _array(module.weight)


def _columns(linear: nn.Module) -> Float[np.ndarray, "columns rows"]:
    return np.ascontiguousarray(_rows(linear).T)


def _leaves(nodes: Float[np.ndarray, "nodes D"], patch_size: int) -> Float[np.ndarray, "values D"]:
    """Compute `BitTreeEmbedding.leaf_table` with every sum in the order of the path."""
    table = nodes[1:2]
    for depth in range(1, patch_size + 1):
        table = np.repeat(table, 2, axis=0) + nodes[2**depth : 2 ** (depth + 1)]
    return table


def _rotation_of_one_position(head_width: int, base: float) -> Float[np.ndarray, "2 half"]:
    """Return the cosine and sine of each frequency, by their series in decimal arithmetic. It
    rounds alike on every machine, which no mathematical library promises."""
    half = head_width // 2
    with localcontext(prec=30):
        angles = [(Decimal(base).ln() * -i / half).exp() for i in range(half)]
        parts = [[_series(angle, first) for angle in angles] for first in (0, 1)]
    return np.array([[float(value) for value in part] for part in parts])


def _series(angle: Decimal, first: int) -> Decimal:
    """Return the cosine (first power 0) or sine (1) of an angle of at most 1."""
    term = angle if first else Decimal(1)
    total = term
    for power in range(first + 2, 40, 2):
        term *= -angle * angle / (power * (power - 1))
        total += term
    return total


def _new_state(config: ModelConfig, weights: Weights, lanes: int) -> LaneState:
    def floats(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    width, nodes = weights.head.shape
    layers, _, hidden = weights.up_proj.shape
    positions = 1 + config.chunk_patches + config.overlap_patches
    exponents = np.zeros(max(positions, nodes), np.int32)
    half = config.head_width // 2
    heads = (layers, config.nhead, lanes)
    return LaneState(
        recent=np.zeros((lanes, weights.multipliers.shape[1]), np.int64),
        keys=floats(*heads, config.head_width, positions),
        values=floats(*heads, positions, config.head_width),
        position=np.zeros(1, np.int64),
        angle=np.stack([np.ones(half), np.zeros(half)]),
        first=floats(lanes, width),
        second=floats(lanes, width),
        branch=floats(lanes, width),
        qkv=floats(lanes, 3 * width),
        memory=floats(lanes, len(weights.project_memory)),
        hidden=floats(lanes, hidden),
        scores=floats(positions),
        exponents=exponents,
        powers=exponents.view(np.float32),
        logits=floats(lanes, nodes),
        cap_terms=floats(nodes),
        masses=floats(lanes, nodes),
    )
