"""Pseudo-random numbers and permutations as pure functions of a seed, without state or tables.

numpy may change the streams of its generators between releases. A run must resume with the same
batches after an upgrade, so the arithmetic is written out here.
"""

import numpy as np
from jaxtyping import Int64, UInt64

_ROUNDS = 6
_WORD_MASK = (1 << 64) - 1


def hash64(seed: int, *words: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Hash each row of the words (at least one word) to 64 bits by chained splitmix64."""
    state = np.array([seed & _WORD_MASK], np.uint64)
    for word in words:
        state = _mix(state ^ _mix(word))
    return state


def randint(seed: int, key: int, limit: int) -> int:
    """Return a pseudo-random number in 0..limit-1 that depends only on the seed and the key."""
    return int(hash64(seed, np.array([key & _WORD_MASK], np.uint64))[0]) % limit


def permute(
    values: Int64[np.ndarray, " n"], epochs: Int64[np.ndarray, " n"], *, size: int, seed: int
) -> Int64[np.ndarray, " n"]:
    """Map each value of 0..size-1 through the permutation of its epoch.

    The map is a balanced Feistel network over the next even number of bits. It is applied again
    until the result lies in 0..size-1 (cycle walking, Black and Rogaway 2002). Every round can be
    undone, so the map is a permutation. It takes at most four steps on average, and needs memory
    for `values` only, whatever the size.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = epochs.astype(np.uint64)
    walked = values.astype(np.uint64)
    pending = np.arange(values.size)
    while pending.size:
        walked[pending] = _feistel(walked[pending], keys[pending], half=half, seed=seed)
        pending = pending[walked[pending] >= size]
    return walked.astype(np.int64)


def _feistel(
    values: UInt64[np.ndarray, " n"], keys: UInt64[np.ndarray, " n"], *, half: np.uint64, seed: int
) -> UInt64[np.ndarray, " n"]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for turn in range(_ROUNDS):
        left, right = right, left ^ (hash64(seed * _ROUNDS + turn, keys, right) & mask)
    return (left << half) | right


def _mix(words: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Apply one step of splitmix64 and its finaliser (Steele, Lea and Flood 2014)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
