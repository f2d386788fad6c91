"""Lempel-Ziv phrases of a bit sequence, found as the bits come.

A phrase is the shortest stretch that has not occurred before, overlaps allowed (Lempel & Ziv 1976,
IEEE Trans. IT 22(1)). All stretches seen so far are kept in a suffix automaton (Blumer et al.
1985), which grows by at most two states a bit, so that a sequence takes time linear in its length.
"""

import numpy as np
from jaxtyping import Bool, Integer

from bit_transformer.native.functions import compiled

_FIRST_CAPACITY = 1 << 11
_SIZE, _LAST, _STATE, _LENGTH = range(4)


@compiled
def _append(bit: int, walk: np.ndarray, edges: np.ndarray, links: np.ndarray) -> None:
    """Add a bit to the automaton. `links[:, 0]` is the suffix link, `[:, 1]` the longest length."""
    new, node = walk[_SIZE], walk[_LAST]
    walk[_SIZE] += 1
    links[new, 1] = links[node, 1] + 1
    while node >= 0 and edges[node, bit] < 0:
        edges[node, bit] = new
        node = links[node, 0]
    if node < 0:
        links[new, 0] = 0
    else:
        target = edges[node, bit]
        if links[target, 1] == links[node, 1] + 1:
            links[new, 0] = target
        else:
            clone = walk[_SIZE]
            walk[_SIZE] += 1
            edges[clone] = edges[target]
            links[clone, 0], links[clone, 1] = links[target, 0], links[node, 1] + 1
            while node >= 0 and edges[node, bit] == target:
                edges[node, bit] = clone
                node = links[node, 0]
            links[target, 0] = links[new, 0] = clone
    walk[_LAST] = new


@compiled
def _advance(
    bits: np.ndarray, walk: np.ndarray, edges: np.ndarray, links: np.ndarray, ends: np.ndarray
) -> None:
    for t in range(bits.size):
        bit = bits[t]
        following = edges[walk[_STATE], bit]
        ends[t] = following < 0
        walk[_STATE], walk[_LENGTH] = (0, 0) if following < 0 else (following, walk[_LENGTH] + 1)
        _append(bit, walk, edges, links)
        # A clone may have taken over the phrase begun: its state is the one with its length.
        while walk[_STATE] and links[links[walk[_STATE], 0], 1] >= walk[_LENGTH]:
            walk[_STATE] = links[walk[_STATE], 0]


class PhraseParser:
    """The parse after the bits read so far; reading in pieces is reading at once."""

    def __init__(self) -> None:
        self.bits_read = 0
        """Bits read so far."""
        self._walk = np.array([1, 0, 0, 0], np.int64)
        self._edges, self._links = _automaton(_FIRST_CAPACITY)

    @property
    def mid_phrase(self) -> bool:
        """Whether a phrase has begun that has occurred before as far as it goes."""
        return bool(self._walk[_LENGTH])

    def read(self, bits: Integer[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
        """Whether each bit ends a phrase."""
        self._reserve(len(bits))
        ends = np.empty(len(bits), np.bool_)
        values = np.ascontiguousarray(bits, dtype=np.uint8)
        _advance(values, self._walk, self._edges, self._links, ends)
        self.bits_read += len(bits)
        return ends

    def _reserve(self, bits: int) -> None:
        needed, used = 2 * (self.bits_read + bits) + 1, int(self._walk[_SIZE])
        if needed > len(self._edges):
            edges, links = _automaton(1 << (2 * needed - 1).bit_length())
            edges[:used], links[:used] = self._edges[:used], self._links[:used]
            self._edges, self._links = edges, links


def _automaton(capacity: int) -> tuple[np.ndarray, np.ndarray]:
    links = np.zeros((capacity, 2), np.int32)
    links[0, 0] = -1
    return np.full((capacity, 2), -1, np.int32), links
