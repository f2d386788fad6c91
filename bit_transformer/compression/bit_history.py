"""What came after a context before: hashed tables of bit histories.

A slot stands for the bits seen at one place of one context. It is two uint16: how many zeros (5
bits) and how many ones (5 bits) there were, and the probability of a one that was adapted to them.
A bucket is a cache line, which is what half a byte costs a context: a check of the context, then
the counts for each prefix of half a byte; then, in the bucket of a first half, the run of the
context, and the probabilities in the order of the counts.

A run is the byte that followed the context last, and, above it, how often in a row.
"""

import numpy as np
from jaxtyping import UInt16

from bit_transformer.compression.fixed_point import ONE, RATES
from bit_transformer.native.functions import inlined

SLOTS = 16
"""Of a bucket, the check among them; the run and the probabilities are as many."""
BUCKET = 2 * SLOTS
COUNTS = 1024
"""How many values the two counts of a slot have."""
_MOST, _DOUBT = 31, 6
_MOST_SEEN = 30
"""The probability forgets as if it had seen so many bits at most."""
_LINE_BYTES = 64
_PROBES = 3


def new_buckets(bits: int) -> UInt16[np.ndarray, " slots"]:
    """An empty table of 2**bits buckets that begins at a cache line."""
    return aligned(BUCKET << bits, np.uint16)


def aligned(size: int, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Zeros that begin at a cache line."""
    width = np.dtype(dtype).itemsize
    room = np.zeros(size + _LINE_BYTES // width, dtype)
    skipped = (-room.ctypes.data % _LINE_BYTES) // width
    return room[skipped : skipped + size]


@inlined
def home_of(buckets: np.ndarray, context: np.uint64) -> int:
    """The first slot of the first place where a context is looked for."""
    return np.int64(context & np.uint64(buckets.size // BUCKET - 1)) * BUCKET


@inlined
def find_bucket(buckets: np.ndarray, context: np.uint64) -> int:
    """The first slot of the bucket of a context; of three places the least used one is cleared for
    a context that is new."""
    check = np.uint16(context >> np.uint64(48)) | np.uint16(1)
    home = home_of(buckets, context)
    found, fewest = 0, 1 << 30
    for step in range(_PROBES):
        first = home ^ (step * BUCKET)
        held = buckets[first]
        if held == check:
            return first
        if held == 0:
            buckets[first] = check
            return first
        counts = np.int64(buckets[first + 1])
        seen = (counts >> 5) + (counts & _MOST)
        if seen < fewest:
            found, fewest = first, seen
    for index in range(SLOTS + 1):
        buckets[found + index] = 0
    buckets[found] = check
    return found


@inlined
def slot_within(node: int, bit_index: int) -> int:
    """Where in its bucket a node of a byte's bit tree is, of whose bits so many are known."""
    half = 1 << (bit_index & 3)
    return half | (node & (half - 1))


@inlined
def after_bit(counts: int, bit: int) -> int:
    """The counts after one more bit. Many of the other bit are forgotten by half of what exceeds
    six: what came last counts most."""
    zeros, ones = counts >> 5, counts & _MOST
    same, other = (ones, zeros) if bit else (zeros, ones)
    if same < _MOST:
        same += 1
    else:
        other = (other * 7) >> 3
    if other > _DOUBT:
        other = (other + _DOUBT) >> 1
    return (other << 5) | same if bit else (same << 5) | other


@inlined
def probability_after_bit(probability: int, counts: int, bit: int) -> int:
    """The probability of a slot, 16 bits, after one more bit; `counts` are those before it, none of
    them in a slot that is new."""
    seen = (counts >> 5) + (counts & _MOST)
    if seen == 0:
        probability = ONE >> 1
    target = (bit << 16) - bit
    return probability + (((target - probability) * RATES[min(seen, _MOST_SEEN)]) >> 16)
