"""The longest earlier passage that ended like the present one, and the byte that followed it.

Two models, of matches of at least 5 and of at least 12 bytes: the first is there soon, the second
is right more often.
"""

import numpy as np

from bit_transformer.compression.fixed_point import hashed
from bit_transformer.compression.lanes import Lanes
from bit_transformer.native.functions import inlined

MATCHES = 2
LEAST_LENGTHS = np.array([5, 12], np.int64)
LENGTH_BUCKETS = 32
_VERIFIED, _LONGEST = 64, 65535


@inlined
def find_matches(lanes: Lanes, lane: int, history: np.ndarray, heads: np.ndarray) -> None:
    """Go on with the matches after a byte, or look for new ones; `heads` (2, 2**k) holds the
    position after the last passage of each hash."""
    position = lanes.position[lane]
    for model in range(MATCHES):
        at, length = lanes.match_at[lane, model], lanes.match_length[lane, model]
        if length > 0 and history[at] == history[position - 1]:
            at, length = at + 1, min(length + 1, _LONGEST)
        else:
            length = 0
        least = LEAST_LENGTHS[model]
        if position >= least:
            hash_ = np.uint64(0)
            for back in range(1, least + 1):
                hash_ = hashed(hash_, np.int64(history[position - back]))
            entry = np.int64(hash_ & np.uint64(heads.shape[1] - 1))
            if length == 0:
                at = np.int64(heads[model, entry])
                length = _common(history, at, position)
                length = length if length >= least else 0
            heads[model, entry] = position
        lanes.match_at[lane, model], lanes.match_length[lane, model] = at, length


@inlined
def _common(history: np.ndarray, first: int, second: int) -> int:
    """How many bytes before two positions are the same."""
    length = 0
    while (
        length < _VERIFIED
        and length < first
        and history[first - 1 - length] == history[second - 1 - length]
    ):
        length += 1
    return length


@inlined
def length_bucket(length: int) -> int:
    """The class of a match length, 0 to 31."""
    if length < 16:
        return length
    if length < 32:
        return 16 + ((length - 16) >> 2)
    if length < 64:
        return 20 + ((length - 32) >> 3)
    if length < 512:
        return 24 + ((length - 64) >> 6)
    return LENGTH_BUCKETS - 1
