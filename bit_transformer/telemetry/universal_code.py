"""An adaptive code that knows nothing beforehand: context-tree weighting over the last 24 bits.

It is the yardstick of K and the reference of S: what can be predicted of a sequence from that
sequence alone. The tree has one node per context, of these depths: nothing; the place in the
symbol (a byte, or a byte and its parity bit); and the symbol's bits so far; and one symbol before
it; and two; and whatever fills up 24 bits.

Weighting: Willems, Shtarkov & Tjalkens 1995, IEEE Trans. IT 41(3), in the sequential form that
keeps at each node the ratio of its own estimate to that of its children. Estimator: half
Krichevsky-Trofimov, a quarter each for "always zero" and "always one" (the zero-redundancy
estimator, Willems & Tjalkens 1997), so that a context which has always gone one way costs two bits
in all, not half a logarithm. The redundancy against any tree of these depths is bounded, so random
bits cost one bit each and a small constant.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.native.functions import compiled

_FIXED_NODES = 1 << 10
"""Nodes found without hashing: the root, places in the symbol, the symbol's bits so far."""
_HASHED_LEVELS = 3
_LEVELS = 3 + _HASHED_LEVELS
_CONTEXT_BITS = 24
_STEADIEST = 2.0**20
"""Bound of the weight ratios: the code stays able to change its mind."""
_FIRST_CAPACITY = 1 << 12
_SWITCH = 1 / 64
"""Chance per bit that the better of model and code is from now on the other one."""


def _krichevsky_trofimov_runs(count: int) -> Float[np.ndarray, " n"]:
    """Probability of n equal bits under the Krichevsky-Trofimov estimator, n from 0."""
    runs = np.ones(count)
    for n in range(1, count):
        runs[n] = runs[n - 1] * (n - 0.5) / n
    return runs


_RUNS = _krichevsky_trofimov_runs(1 << 10)


@compiled
def _next_of_run(length: int, runs: np.ndarray) -> float:
    """Probability that a run which has never been broken goes on."""
    if length + 1 < runs.size:
        before, after = runs[length], runs[length + 1]
    else:
        before, after = 1 / math.sqrt(math.pi * length), 1 / math.sqrt(math.pi * (length + 1))
    return (2 * after + 1) / (2 * before + 1)


@compiled
def _estimate(zeros: int, ones: int, runs: np.ndarray) -> float:
    """Probability of a one at a node that has seen so many zeros and ones."""
    if zeros == ones == 0:
        return 0.5
    if ones == 0:
        return 1 - _next_of_run(zeros, runs)
    if zeros == 0:
        return _next_of_run(ones, runs)
    return (ones + 0.5) / (zeros + ones + 1)


@compiled
def _find(keys: np.ndarray, key: int) -> int:
    """Slot of a hashed node; an empty slot is taken. The table is never full."""
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
    """The node of every depth, shallowest first, for the bit after `history`."""
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
    """Fill in the probability of a one before each bit, then learn the bit.

    `clock` holds the last bits as an integer and the number of bits read.
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
                ratios[node] = min(max(ratio, 1 / _STEADIEST), _STEADIEST)
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
    """The code's state after the bits read so far; reading in pieces is reading at once.

    Takes about 0.2 microseconds and at most 120 bytes of memory a bit.
    """

    def __init__(self, symbol_bits: int = 8) -> None:
        """`symbol_bits`: 8 for bytes, 9 for bytes with parity; the first bit begins a symbol."""
        self.symbol_bits = symbol_bits
        self._clock = np.zeros(2, np.int64)
        self._tables = _tables(_FIRST_CAPACITY)

    @property
    def bits_read(self) -> int:
        """Bits read so far."""
        return int(self._clock[1])

    def read(self, bits: Integer[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """Probability of a one that each bit had, given all bits read before it, in (0, 1)."""
        self._reserve(len(bits))
        p_ones = np.empty(len(bits))
        values = np.ascontiguousarray(bits, dtype=np.uint8)
        _advance(values, self.symbol_bits, self._clock, *self._tables, _RUNS, p_ones)
        return p_ones

    def _reserve(self, bits: int) -> None:
        """Room for the nodes that so many more bits can make, at most half full."""
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
def _share(
    bits: np.ndarray, code: np.ndarray, model: np.ndarray, trust: np.ndarray, mixed: np.ndarray
) -> None:
    for t in range(bits.size):
        mixed[t] = trust[0] * model[t] + (1 - trust[0]) * code[t]
        its, of_both = model[t], mixed[t]
        if bits[t] == 0:
            its, of_both = 1 - its, 1 - of_both
        posterior = trust[0] * its / of_both
        trust[0] = posterior + _SWITCH * (0.5 - posterior)


class Reference:
    """What a model is held against: the universal code, or the model itself where it did better.

    A Bayesian mixture of the two that may switch at any bit (fixed share: Herbster & Warmuth 1998,
    Machine Learning 32). A model is thus not held to be wrong for knowing what no adaptive code
    could know, and is so as soon as the code, which has only this sequence, predicts it better.
    """

    def __init__(self, symbol_bits: int = 8) -> None:
        """`symbol_bits` as in `UniversalCode`."""
        self._code, self._trust = UniversalCode(symbol_bits), np.array([0.5])

    @property
    def bits_read(self) -> int:
        """Bits read so far."""
        return self._code.bits_read

    def read(
        self, bits: Integer[np.ndarray, " T"], model: Float[np.ndarray, " T"]
    ) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
        """Probabilities of a one before each bit, given the model's: the reference's and those of
        the universal code in it; all in (0, 1)."""
        code, mixed = self._code.read(bits), np.empty(len(bits))
        _share(np.ascontiguousarray(bits, dtype=np.uint8), code, model, self._trust, mixed)
        return mixed, code


def code_lengths(
    p_ones: Float[np.ndarray, " T"], bits: Integer[np.ndarray, " T"]
) -> Float[np.ndarray, " T"]:
    """Bits that each bit costs under the probabilities of a one."""
    return np.asarray(-np.log2(np.where(np.asarray(bits) == 1, p_ones, 1 - p_ones)))


def reference_for(
    bits: Integer[Tensor, "B T"], p_ones: Float[Tensor, "B T"], *, symbol_bits: int = 8
) -> Float[Tensor, "B T"]:
    """`Reference` over each row of a batch: probability of a one before each bit."""
    rows = zip(bits.cpu().numpy(), p_ones.double().cpu().numpy(), strict=True)
    found = [Reference(symbol_bits).read(row, model)[0] for row, model in rows]
    stacked = np.stack(found) if found else np.zeros(tuple(bits.shape))
    return torch.from_numpy(stacked).to(bits.device)
