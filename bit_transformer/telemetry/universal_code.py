"""Context-tree weighting: an adaptive binary code over the last 24 bits, without prior knowledge.

Its code length defines K and U of bits, and its predictions are part of the reference of S: they
are what can be predicted of a sequence from the sequence alone. The tree has one node per context.
Its levels know, from the root on: nothing; the place in the symbol (a byte, or a byte and its
parity bit); the symbol's bits so far; one symbol more; two symbols more; all 24 bits.

Weighting (Willems, Shtarkov & Tjalkens 1995, IEEE Trans. IT 41(3)): P_w = (P_e + P_child) / 2 for
the bits seen at an inner node, computed sequentially from the ratio P_e / P_child that it stores.
Estimator P_e: half Krichevsky-Trofimov (1981, IEEE Trans. IT 27(2)), a quarter each for "always
zero" and "always one" (the zero-redundancy estimator, Willems & Tjalkens 1997). A context that
always continues the same way then costs two bits in all instead of half a logarithm. The redundancy
against every tree of these levels is bounded, so random bits cost one bit each plus a constant.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.native.functions import compiled

_FIXED_NODES = 1 << 10
"""Nodes of the first three levels, which are addressed without hashing."""
_HASHED_LEVELS = 3
_LEVELS = 3 + _HASHED_LEVELS
_CONTEXT_BITS = 24
_MAX_RATIO = 2.0**20
"""Bound of the stored ratios, so that a node can still change its preference later."""
_FIRST_CAPACITY = 1 << 12
_SHARE = 1 / 64
"""Alpha of fixed share: the part of the weight that is redistributed evenly after every bit."""


def _krichevsky_trofimov_runs(count: int) -> Float[np.ndarray, " n"]:
    """Return the Krichevsky-Trofimov probability of n equal bits, for n from 0."""
    runs = np.ones(count)
    for n in range(1, count):
        runs[n] = runs[n - 1] * (n - 0.5) / n
    return runs


_RUNS = _krichevsky_trofimov_runs(1 << 10)


@compiled
def _next_of_run(length: int, runs: np.ndarray) -> float:
    """Return the probability that the only bit value seen so far, `length` times, comes again."""
    if length + 1 < runs.size:
        before, after = runs[length], runs[length + 1]
    else:
        before, after = 1 / math.sqrt(math.pi * length), 1 / math.sqrt(math.pi * (length + 1))
    return (2 * after + 1) / (2 * before + 1)


@compiled
def _estimate(zeros: int, ones: int, runs: np.ndarray) -> float:
    """Return P_e of a one after these counts. With both values seen it is (n1 + 1/2) / (n + 1)."""
    if zeros == ones == 0:
        return 0.5
    if ones == 0:
        return 1 - _next_of_run(zeros, runs)
    if zeros == 0:
        return _next_of_run(ones, runs)
    return (ones + 0.5) / (zeros + ones + 1)


@compiled
def _find(keys: np.ndarray, key: int) -> int:
    """Return the slot of a hashed node, taking an empty one if needed. The table is never full."""
    mask = keys.size - 1
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    slot = int(mixed >> np.uint64(40)) & mask
    while keys[slot] != key:
        if keys[slot] == 0:
            keys[slot] = key
            break
        slot = (slot + 1) & mask
    return slot


@compiled
def _path(nodes: np.ndarray, keys: np.ndarray, history: int, place: int, width: int) -> None:
    """Write the node of every level, root first, for the bit after `history` to `nodes`."""
    partial = (history & ((1 << place) - 1)) | (1 << place)
    nodes[0], nodes[1], nodes[2] = 0, 1 + place, 16 + partial
    for level in range(_HASHED_LEVELS):
        known = min(place + (level + 1) * width, _CONTEXT_BITS)
        if level == _HASHED_LEVELS - 1:
            known = _CONTEXT_BITS
        context = history & ((1 << known) - 1)
        key = ((context << 4 | place) << 2 | level) + 1
        nodes[3 + level] = _FIXED_NODES + _find(keys, key)


@compiled
def _advance(
    bits: np.ndarray,
    width: int,
    clock: np.ndarray,
    keys: np.ndarray,
    counts: np.ndarray,
    ratios: np.ndarray,
    runs: np.ndarray,
    p_ones: np.ndarray,
) -> None:
    """Write the probability of a one before each bit to `p_ones`, then learn the bit.

    `clock` holds the last 32 bits as an integer and the number of bits read.
    """
    nodes, estimates = np.empty(_LEVELS, np.int64), np.empty(_LEVELS)
    below = np.empty(_LEVELS)
    for t in range(bits.size):
        _path(nodes, keys, clock[0], clock[1] % width, width)
        weighted = 0.5
        for level in range(_LEVELS - 1, -1, -1):
            node = nodes[level]
            estimate = _estimate(counts[node, 0], counts[node, 1], runs)
            estimates[level], below[level] = estimate, weighted
            if level == _LEVELS - 1:
                weighted = estimate
            else:
                share = ratios[node] / (1 + ratios[node])
                weighted = share * estimate + (1 - share) * weighted
        p_ones[t] = weighted
        bit = bits[t]
        for level in range(_LEVELS):
            node = nodes[level]
            if level < _LEVELS - 1:
                own, children = estimates[level], below[level]
                if bit == 0:
                    own, children = 1 - own, 1 - children
                ratio = ratios[node] * own / children
                ratios[node] = min(max(ratio, 1 / _MAX_RATIO), _MAX_RATIO)
            counts[node, bit] += 1
        clock[0] = (clock[0] << 1 | bit) & ((1 << 32) - 1)
        clock[1] += 1


@compiled
def _rehash(
    keys: np.ndarray,
    counts: np.ndarray,
    ratios: np.ndarray,
    grown: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    new_keys, new_counts, new_ratios = grown
    new_counts[:_FIXED_NODES] = counts[:_FIXED_NODES]
    new_ratios[:_FIXED_NODES] = ratios[:_FIXED_NODES]
    for slot in range(keys.size):
        if keys[slot]:
            new = _FIXED_NODES + _find(new_keys, keys[slot])
            new_counts[new] = counts[_FIXED_NODES + slot]
            new_ratios[new] = ratios[_FIXED_NODES + slot]


class UniversalCode:
    """The state of the code. Reading in pieces gives the same values as reading at once.

    A bit takes about 0.2 microseconds and at most 120 bytes of memory.
    """

    def __init__(self, symbol_bits: int = 8) -> None:
        """`symbol_bits` is 8 for bytes, 9 with parity. The first bit begins a symbol."""
        self.symbol_bits = symbol_bits
        self._clock = np.zeros(2, np.int64)
        self._tables = _tables(_FIRST_CAPACITY)

    @property
    def bits_read(self) -> int:
        """Number of bits read so far."""
        return int(self._clock[1])

    def read(self, bits: Integer[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """Read bits and return the probability of a one that each had before it was read."""
        self._reserve(len(bits))
        p_ones = np.empty(len(bits))
        values = np.ascontiguousarray(bits, dtype=np.uint8)
        _advance(values, self.symbol_bits, self._clock, *self._tables, _RUNS, p_ones)
        return p_ones

    def _reserve(self, bits: int) -> None:
        """Grow the tables so that they stay half empty after this many more bits."""
        capacity = len(self._tables[0])
        needed = 2 * _HASHED_LEVELS * (self.bits_read + bits)
        if needed > capacity:
            grown = _tables(1 << (2 * needed - 1).bit_length())
            _rehash(*self._tables, grown)
            self._tables = grown


def _tables(capacity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    nodes = _FIXED_NODES + capacity
    return np.zeros(capacity, np.int64), np.zeros((nodes, 2), np.int32), np.ones(nodes)


@compiled
def _fixed_share(
    bits: np.ndarray, code: np.ndarray, model: np.ndarray, weight: np.ndarray, mixed: np.ndarray
) -> None:
    """Write the mixture's predictions to `mixed`; `weight[0]` is the model's weight in it."""
    for t in range(bits.size):
        mixed[t] = weight[0] * model[t] + (1 - weight[0]) * code[t]
        p_model, p_mixed = model[t], mixed[t]
        if bits[t] == 0:
            p_model, p_mixed = 1 - p_model, 1 - p_mixed
        posterior = weight[0] * p_model / p_mixed
        weight[0] = posterior + _SHARE * (0.5 - posterior)


class Reference:
    """The reference of S: a mixture of the model and the universal code.

    r_t = w_t model_t + (1 - w_t) code_t. The weight w_t follows Bayes' rule with a fixed share
    (Herbster & Warmuth 1998, Machine Learning 32), so that it can change sides at any bit. Against
    the code alone, S would fall as a model learns, because a good model is more confident than any
    adaptive code. Against the mixture, S falls only where the code predicts better than the model.
    """

    def __init__(self, symbol_bits: int = 8) -> None:
        """`symbol_bits` is as in `UniversalCode`."""
        self._code, self._weight = UniversalCode(symbol_bits), np.array([0.5])

    @property
    def bits_read(self) -> int:
        """Number of bits read so far."""
        return self._code.bits_read

    def read(
        self, bits: Integer[np.ndarray, " T"], model: Float[np.ndarray, " T"]
    ) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
        """Read bits and the model's probabilities of a one before each. Return the probabilities of
        the reference and of its universal code, all in (0, 1)."""
        code, mixed = self._code.read(bits), np.empty(len(bits))
        _fixed_share(np.ascontiguousarray(bits, dtype=np.uint8), code, model, self._weight, mixed)
        return mixed, code


def code_lengths(
    p_ones: Float[np.ndarray, " T"], bits: Integer[np.ndarray, " T"]
) -> Float[np.ndarray, " T"]:
    """Return -log2 of the probability of each bit, given the probabilities of a one."""
    return np.asarray(-np.log2(np.where(np.asarray(bits) == 1, p_ones, 1 - p_ones)))


def reference_for(
    bits: Integer[Tensor, "B T"], p_ones: Float[Tensor, "B T"], *, symbol_bits: int = 8
) -> Float[Tensor, "B T"]:
    """Return the probabilities of a one under `Reference` for each row of a batch."""
    rows = zip(bits.cpu().numpy(), p_ones.double().cpu().numpy(), strict=True)
    found = [Reference(symbol_bits).read(row, model)[0] for row, model in rows]
    stacked = np.stack(found) if found else np.zeros(tuple(bits.shape))
    return torch.from_numpy(stacked).to(bits.device)
