"""Dynamic evaluation: weights take a gradient step on what they have just predicted.

Krause et al. 2018, arXiv:1709.07432. Two sets of weights may learn, on a copy of them:

head    The head's nodes learn after every patch; its leaves do not. The trunk stays static, so its
        states are computed in batches, and a step touches only the nodes on the patch's path.
memory  The looked-up rows of the context memory learn too, by a backward pass through the trunk
        after every 64 bytes. This takes several times as long as scoring without it.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from bit_transformer.bits.codec import unpack_bytes
from bit_transformer.errors import InvalidPredictionError, UnsupportedCombination, require
from bit_transformer.inference.predictor import log2_likelihood, require_predictions
from bit_transformer.inference.score import (
    Surprisals,
    Waiting,
    in_windows,
    scoring_window,
    stream_likelihood,
)
from bit_transformer.model.bit_tree import patch_values, path_logits
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.transformer import BitTransformer, bit_logits
from bit_transformer.native.functions import reassociated

Learns = Literal["head", "memory"]
DEFAULT_RATE, MEMORY_RATE = 0.1, 1.0
"""Learning rates of the head and of the memory, chosen on files that the results do not report."""
MAX_RATE = 2.0
_BYTE_BITS, _STRIDE_BYTES = 8, 64


class AdaptiveHead:
    """A copy of a network's head that learns from each patch after it has predicted it.

    A step moves the logit of a bit towards the bit by at most `rate`. A rate of 0 is the static
    head.
    """

    def __init__(self, network: BitTransformer, rate: float = DEFAULT_RATE) -> None:
        """Raises `ConfigError` for a rate outside [0, 2]."""
        require(0 <= rate <= MAX_RATE, "rate", rate, f"in [0, {MAX_RATE:g}]")
        self._rate, self._cap = rate, network.config.logit_cap
        self._bits = network.config.patch_size - network.config.parity
        self._nodes = network.head.nodes.detach().float().cpu().numpy().copy()

    def read(
        self,
        states: Float32[np.ndarray, "N D"],
        patches: Int64[np.ndarray, " N"],
        leaves: Float32[np.ndarray, "N bits"] | None = None,
    ) -> Float32[np.ndarray, "N bits"]:
        """Read patches, one after the other; return the log-odds of a one of each of their bits.

        `states` are the normalised inputs of the head. `bits` is P, or P - 1 with parity, whose bit
        is certain. `leaves` is what the head's leaves add to each logit, before the cap.
        """
        shape = len(patches), self._bits
        log_odds = np.empty(shape, np.float32)
        added = np.zeros(shape, np.float32) if leaves is None else leaves
        _read(states, patches, self._nodes, added, self._rate, self._cap, log_odds)
        return log_odds


class Likelihoods(NamedTuple):
    """log2 of the probability of every bit of a stretch of data, in rows of one byte."""

    static: Float32[np.ndarray, "n 8"]
    """Under the network, whose weights do not change."""
    adaptive: Float32[np.ndarray, "n 8"]
    """Under weights that learn from the data after they have predicted it."""


def adaptive_likelihood(
    network: BitTransformer,
    pieces: Iterable[UInt8[np.ndarray, " _"]],
    window: int,
    overlap: int,
    *,
    learns: Learns = "head",
    rate: float = DEFAULT_RATE,
) -> Iterator[Likelihoods]:
    """Yield the likelihoods of data that comes in pieces, in windows as in `stream_likelihood`.

    `rate` is that of the head. When the memory learns, the adaptive likelihood has windows of its
    own: as long, and with 64 new bytes or half a window each.

    Raises `UnsupportedCombination` for a network without a memory that should learn or, when only
    the head learns, for patches that cross bytes. Raises `ConfigError` for a rate outside [0, 2].
    """
    if learns == "head":
        return _with_head(network, pieces, window, overlap, rate)
    require(0 <= rate <= MAX_RATE, "rate", rate, f"in [0, {MAX_RATE:g}]")
    return _with_memory(network, pieces, window, overlap, rate)


def adaptive_surprisal(
    network: BitTransformer,
    pieces: Iterable[UInt8[np.ndarray, " _"]],
    *,
    learns: Learns = "head",
    window_bytes: int | None = None,
    overlap_bytes: int | None = None,
) -> Iterator[Surprisals]:
    """Yield the surprisal of every byte of data that comes in pieces, static and adaptive."""
    window, overlap = scoring_window(network, window_bytes, overlap_bytes)
    for static, adaptive in adaptive_likelihood(network, pieces, window, overlap, learns=learns):
        yield Surprisals(-static.sum(-1), -adaptive.sum(-1))


def _with_head(
    network: BitTransformer,
    pieces: Iterable[UInt8[np.ndarray, " _"]],
    window: int,
    overlap: int,
    rate: float,
) -> Iterator[Likelihoods]:
    patch = network.config.patch_size
    if _BYTE_BITS % patch and not network.config.parity:
        raise UnsupportedCombination(
            f"the adaptive head learns from whole patches, but patches of {patch} bits cross "
            "bytes; use a model with a patch_size of 1, 2, 4 or 8, or score without it"
        )
    head, data = AdaptiveHead(network, rate), Waiting()
    stretches = in_windows(
        data.remember(pieces), window, overlap, lambda rows: _logits_and_states(network, rows)
    )
    for rows in stretches:
        bits = np.unpackbits(data.take(len(rows)))
        # Without the parity bit, which is certain.
        grouped = bits.reshape(-1, min(patch, _BYTE_BITS))
        patches = grouped @ (1 << np.arange(grouped.shape[1])[::-1])
        static, leaves, states = np.split(rows, [_BYTE_BITS, 2 * _BYTE_BITS], axis=1)
        shape = len(patches), -1
        adaptive = head.read(states.reshape(shape), patches, leaves.reshape(shape))
        yield Likelihoods(_likelihood(static, bits), _likelihood(adaptive, bits))


def _with_memory(
    network: BitTransformer,
    pieces: Iterable[UInt8[np.ndarray, " _"]],
    window: int,
    overlap: int,
    rate: float,
) -> Iterator[Likelihoods]:
    if network.memory is None or not isinstance(network.memory.rows, nn.Embedding):
        raise UnsupportedCombination(
            "the memory can only learn in a network that has a context memory in float32; let the "
            "head learn, or score a model with memory_bits that is not quantized"
        )
    # Two readers follow the data in step: the static one in batches, and the learning copy.
    learner, data = _Learner(network, window, rate), Waiting()
    for static in stream_likelihood(network, data.remember(pieces), window, overlap):
        values = data.take(len(static))
        adaptive = np.concatenate([learner.read(part) for part in learner.steps(values)])
        yield Likelihoods(static[:, :_BYTE_BITS], adaptive)


class _Learner:
    """A copy of a network whose head and memory rows learn while it reads."""

    def __init__(self, network: BitTransformer, window: int, rate: float) -> None:
        self._network = copy.deepcopy(network).requires_grad_(False).eval()
        assert self._network.memory is not None
        self._rows = self._network.memory.rows.weight.requires_grad_(True)
        self._nodes = self._network.head.nodes.requires_grad_(True)
        self._window, self._rate = window, rate
        self._stride = max(1, min(_STRIDE_BYTES, window // 2))
        self._recent = np.zeros(0, np.uint8)

    def steps(self, values: UInt8[np.ndarray, " n"]) -> list[np.ndarray]:
        """Split data into the bytes of one step each."""
        return np.split(values, range(self._stride, len(values), self._stride))

    def read(self, values: UInt8[np.ndarray, " n"]) -> Float32[np.ndarray, "n 8"]:
        """Return log2 of the probability of every bit, then learn from them."""
        config = self._network.config
        held = np.concatenate((self._recent, values))[-self._window :]
        self._recent = held
        bits = torch.from_numpy(unpack_bytes(held[None], parity=config.parity))
        bits = bits.to(self._network.device)
        new = len(values) * config.bits_per_byte
        with torch.enable_grad():
            found = log2_likelihood(bit_logits(self._network, bits)[:, -new:], bits[:, -new:])
            if not bool(found.isfinite().all()):
                raise InvalidPredictionError(
                    "a prediction is NaN or infinite after the memory and the head have learned; "
                    "score without it, or let only the head learn"
                )
            nats = -math.log(2) * found.sum()
            rows, nodes = torch.autograd.grad(nats, (self._rows, self._nodes))
        with torch.no_grad():
            rows = rows.coalesce() if rows.is_sparse else rows.to_sparse(1).coalesce()
            self._rows.index_add_(0, rows.indices()[0], rows.values(), alpha=-MEMORY_RATE)
            self._nodes -= self._rate / config.d_model * nodes
        per_byte = found.detach().float().cpu().numpy().reshape(len(values), -1)
        return np.asarray(per_byte[:, :_BYTE_BITS])


def _likelihood(
    log_odds: Float32[np.ndarray, "..."], bits: UInt8[np.ndarray, " T"]
) -> Float32[np.ndarray, "n 8"]:
    found = log2_likelihood(torch.from_numpy(log_odds.reshape(1, -1)), torch.from_numpy(bits)[None])
    return np.asarray(found.numpy().reshape(-1, _BYTE_BITS))


@torch.inference_mode()
def _logits_and_states(
    network: BitTransformer, rows: UInt8[np.ndarray, "B n"]
) -> Float32[np.ndarray, "B n width"]:
    """Return for each byte the logits of its 8 bits, what the head's leaves add to them, and the
    normalised inputs of the head for all of its patches."""
    config, found = network.config, list[Tensor]()
    bits = torch.from_numpy(unpack_bytes(rows, parity=config.parity)).to(network.device)
    patches = patch_values(bits, config.patch_size)
    hook = network.head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        nodes = network(patches[:, :-1])
    finally:
        hook.remove()
    logits = path_logits(nodes, patches, config.patch_size)
    require_predictions(logits.float().cpu().numpy())
    logits = logits.reshape(*rows.shape, config.bits_per_byte)[:, :, :_BYTE_BITS]
    states = rms_norm(found[0])
    leaves = torch.zeros_like(logits)
    if network.head.leaves is not None:
        odds, parity = network.head.leaf_log_odds(states), int(config.parity)
        leaves = path_logits(odds, patches >> parity, config.patch_size - parity)
        leaves = leaves.reshape(*rows.shape, _BYTE_BITS)
    joined = torch.cat((logits, leaves, states.reshape(*rows.shape, -1)), dim=-1)
    return np.asarray(joined.float().cpu().numpy())


@reassociated
def _read(
    states: np.ndarray,
    patches: np.ndarray,
    nodes: np.ndarray,
    leaves: np.ndarray,
    rate: float,
    cap: float,
    log_odds: np.ndarray,
) -> None:
    count, width = states.shape
    bits = log_odds.shape[1]
    step = rate / width
    for n in range(count):
        path = patches[n] + (1 << bits)
        for depth in range(bits):
            node, total = path >> (bits - depth), leaves[n, depth]
            for i in range(width):
                total += nodes[node, i] * states[n, i]
            log_odds[n, depth] = cap * np.tanh(total / cap) if cap > 0 else total
        for depth in range(bits):
            node, logit = path >> (bits - depth), log_odds[n, depth]
            bit = (path >> (bits - 1 - depth)) & 1
            # The state's squared norm is the width, so the logit moves by `rate` times the error.
            slope = 1 - (logit / cap) ** 2 if cap > 0 else 1.0
            scale = np.float32(step * slope * (bit - 1 / (1 + np.exp(-logit))))
            for i in range(width):
                nodes[node, i] += scale * states[n, i]
