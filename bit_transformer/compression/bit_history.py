"""What came after a context before: hashed tables of bit histories.

A slot is a uint16 that stands for the bits seen at one place of one context: how many zeros (5
bits), how many ones (5 bits), and the last five of them behind a leading one (6 bits). A bucket is
16 slots: a check of the context, then a slot for each prefix of half a byte. Half a byte costs one
cache line a context.
"""

import numpy as np
from jaxtyping import UInt16

from bit_transformer.telemetry.native import inlined

SLOTS = 16
"""Per bucket."""
COUNTS, RECENT = 1024, 64
"""How many values the two counts of a slot have, and the last bits."""
_MOST, _DOUBT = 31, 6
_LINE_BYTES = 64
_PROBES = 3


def new_buckets(bits: int) -> UInt16[np.ndarray, " slots"]:
    """An empty table of 2**bits buckets that begins at a cache line."""
    return aligned(SLOTS << bits, np.uint16)


def aligned(size: int, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """Zeros that begin at a cache line."""
    width = np.dtype(dtype).itemsize
    room = np.zeros(size + _LINE_BYTES // width, dtype)
    skipped = (-room.ctypes.data % _LINE_BYTES) // width
    return room[skipped : skipped + size]


@inlined
def home_of(buckets: np.ndarray, context: np.uint64) -> int:
    """The first slot of the first place where a context is looked for."""
    return np.int64(context & np.uint64(buckets.size // SLOTS - 1)) * SLOTS


@inlined
def find_bucket(buckets: np.ndarray, context: np.uint64) -> int:
    """The first slot of the bucket of a context; of three places the least used one is cleared for
    a context that is new."""
    check = np.uint16(context >> np.uint64(48)) | np.uint16(1)
    home = home_of(buckets, context)
    found, fewest = 0, 1 << 30
    for step in range(_PROBES):
        first = home ^ (step * SLOTS)
        held = buckets[first]
        if held == check:
            return first
        if held == 0:
            buckets[first] = check
            return first
        slot = np.int64(buckets[first + 1])
        seen = (slot >> 11) + ((slot >> 6) & _MOST)
        if seen < fewest:
            found, fewest = first, seen
    for index in range(SLOTS):
        buckets[found + index] = 0
    buckets[found] = check
    return found


@inlined
def slot_within(node: int, bit_index: int) -> int:
    """Where in its bucket a node of a byte's bit tree is, of whose bits so many are known."""
    half = 1 << (bit_index & 3)
    return half | (node & (half - 1))


@inlined
def after_bit(slot: int, bit: int) -> int:
    """The slot after one more bit. Many of the other bit are forgotten by half of what exceeds six:
    what came last counts most."""
    zeros, ones, recent = slot >> 11, (slot >> 6) & _MOST, slot & (RECENT - 1)
    same, other = (ones, zeros) if bit else (zeros, ones)
    if same < _MOST:
        same += 1
    else:
        other = (other * 7) >> 3
    if other > _DOUBT:
        other = (other + _DOUBT) >> 1
    zeros, ones = (other, same) if bit else (same, other)
    if slot == 0:
        recent = 1
    grown = (recent << 1) | bit
    recent = grown if grown < RECENT else (RECENT >> 1) | (grown & (RECENT // 2 - 1))
    return (zeros << 11) | (ones << 6) | recent
