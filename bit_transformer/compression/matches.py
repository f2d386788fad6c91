"""Match models: the longest earlier passage that ended like the present one predicts the byte that
followed it.

There are two: one for matches of at least 5 bytes, which begins early, and one for at least 12,
which is right more often.
"""

import numpy as np

from bit_transformer.compression.fixed_point import hashed
from bit_transformer.compression.lanes import Lanes
from bit_transformer.native.functions import inlined

MATCHES = 2
MIN_LENGTHS = np.array([5, 12], np.int64)
LENGTH_BUCKETS = 32
_MAX_VERIFIED, _MAX_LENGTH = 64, 65535


@inlined
def find_matches(lanes: Lanes, lane: int, history: np.ndarray, heads: np.ndarray) -> None:
    """Extend each match by the byte just coded, or look for a new one. `heads` (2, 2**k) holds the
    position after the last passage with each hash."""
    position = lanes.position[lane]
    for model in range(MATCHES):
        at, length = lanes.match_at[lane, model], lanes.match_length[lane, model]
        if length > 0 and history[at] == history[position - 1]:
            at, length = at + 1, min(length + 1, _MAX_LENGTH)
        else:
            length = 0
        minimum = MIN_LENGTHS[model]
        if position >= minimum:
            hash_ = np.uint64(0)
            for back in range(1, minimum + 1):
                hash_ = hashed(hash_, np.int64(history[position - back]))
            entry = np.int64(hash_ & np.uint64(heads.shape[1] - 1))
            if length == 0:
                at = np.int64(heads[model, entry])
                length = _common_length(history, at, position)
                length = length if length >= minimum else 0
            heads[model, entry] = position
        lanes.match_at[lane, model], lanes.match_length[lane, model] = at, length


# A hash may collide, so the bytes themselves are compared.
@inlined
def _common_length(history: np.ndarray, first: int, second: int) -> int:
    """Return how many bytes before two positions are the same, up to 64."""
    length = 0
    while (
        length < _MAX_VERIFIED
        and length < first
        and history[first - 1 - length] == history[second - 1 - length]
    ):
        length += 1
    return length


@inlined
def length_bucket(length: int) -> int:
    """Return the class of a match length, 0 to 31; longer matches share wider classes."""
    if length < 16:
        return length
    if length < 32:
        return 16 + ((length - 16) >> 2)
    if length < 64:
        return 20 + ((length - 32) >> 3)
    if length < 512:
        return 24 + ((length - 64) >> 6)
    return LENGTH_BUCKETS - 1
