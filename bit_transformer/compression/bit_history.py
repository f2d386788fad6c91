"""Hash table of contexts: for each bit position of a context, the bits that were seen there.

A slot belongs to one node of a byte's bit tree in one context. It is two uint16: the numbers of
zeros and of ones seen (5 bits each), and a probability that is adapted to them. The counts are
PAQ's bit history in its simplest form, an indirect model: a second table learns the probability
that such counts stand for (Mahoney, "Data Compression Explained").
A bucket is one cache line of 64 bytes, because a look-up costs one cache miss, and it serves half a
byte. Its first 16 uint16 are a check of the context and the counts of the 15 nodes. The others are
the context's run and the 15 probabilities. Only the bucket of a byte's first half holds a run: the
byte that last followed the context, and above it how often it did so in a row.
"""

import numpy as np
from jaxtyping import UInt16

from bit_transformer.compression.fixed_point import ONE, RATES
from bit_transformer.native.functions import inlined

SLOTS = 16
"""uint16 in each half of a bucket: the check and the counts, then the run and the probabilities."""
BUCKET = 2 * SLOTS
COUNTS = 1024
"""Number of values that the pair of counts can have."""
_MAX_COUNT, _MAX_OPPOSITE = 31, 6
_MAX_RATE_COUNT = 30
"""A slot's probability adapts as if at most this many bits had been seen: it keeps forgetting."""
_LINE_BYTES = 64
PROBES = 3


def new_buckets(bits: int) -> UInt16[np.ndarray, " slots"]:
    """Return an empty table of 2**bits buckets that begins at a cache line."""
    return aligned(BUCKET << bits, np.uint16)


def aligned(size: int, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Return zeros that begin at a cache line."""
    width = np.dtype(dtype).itemsize
    room = np.zeros(size + _LINE_BYTES // width, dtype)
    skipped = (-room.ctypes.data % _LINE_BYTES) // width
    return room[skipped : skipped + size]


@inlined
def home_of(buckets: np.ndarray, context: np.uint64) -> int:
    """Return the first slot of the bucket where the search for a context begins."""
    return np.int64(context & np.uint64(buckets.size // BUCKET - 1)) * BUCKET


# Three neighbouring buckets are tried, as in lpaq. In a full table the one whose first bit was seen
# least often is given up: most contexts occur once, and the frequent ones must survive.
@inlined
def find_bucket(buckets: np.ndarray, context: np.uint64) -> int:
    """Return the first slot of a context's bucket; a new context gets the least used of three."""
    check = np.uint16(context >> np.uint64(48)) | np.uint16(1)
    home = home_of(buckets, context)
    found, fewest = 0, 1 << 30
    for step in range(PROBES):
        first = home ^ (step * BUCKET)
        held = buckets[first]
        if held == check:
            return first
        if held == 0:
            buckets[first] = check
            return first
        counts = np.int64(buckets[first + 1])
        seen = (counts >> 5) + (counts & _MAX_COUNT)
        if seen < fewest:
            found, fewest = first, seen
    # The probabilities need no clearing: one whose counts are zero starts anew at 1/2.
    for index in range(SLOTS + 1):
        buckets[found + index] = 0
    buckets[found] = check
    return found


@inlined
def slot_within(node: int, bit_index: int) -> int:
    """Return the place within a bucket of a bit tree's node of which `bit_index` bits are known."""
    half = 1 << (bit_index & 3)
    return half | (node & (half - 1))


# Data is not stationary, so what came last counts most. PAQ6 discards half of the opposite count's
# excess over two; here it is the excess over six. Once a count is full, the other shrinks instead.
@inlined
def after_bit(counts: int, bit: int) -> int:
    """Return the counts of zeros and ones after one more bit."""
    zeros, ones = counts >> 5, counts & _MAX_COUNT
    same, other = (ones, zeros) if bit else (zeros, ones)
    if same < _MAX_COUNT:
        same += 1
    else:
        other = (other * 7) >> 3
    if other > _MAX_OPPOSITE:
        other = (other + _MAX_OPPOSITE) >> 1
    return (other << 5) | same if bit else (same << 5) | other


@inlined
def probability_after_bit(probability: int, counts: int, bit: int) -> int:
    """Return a slot's probability (16 bits) after one more bit. A slot whose counts were zero
    before the bit is new and starts at 1/2."""
    seen = (counts >> 5) + (counts & _MAX_COUNT)
    if seen == 0:
        probability = ONE >> 1
    target = (bit << 16) - bit
    return probability + (((target - probability) * RATES[min(seen, _MAX_RATE_COUNT)]) >> 16)
