"""An incremental Lempel-Ziv 1976 parser for bits.

The parse (Lempel & Ziv 1976, IEEE Trans. IT 22(1)) cuts a sequence into phrases. Each phrase is the
shortest string from its start that has no earlier occurrence; an occurrence may overlap it. A
suffix automaton (Blumer et al. 1985) recognises all earlier substrings. It grows by at most two
states per bit, so parsing takes linear time.
"""

import numpy as np
from jaxtyping import Bool, Integer

from bit_transformer.native.functions import compiled

_FIRST_CAPACITY = 1 << 11
_SIZE, _LAST, _STATE, _LENGTH = range(4)
"""Entries of a cursor: number of states, state of the whole sequence, state and length of the open
phrase."""


@compiled
def _append(bit: int, cursor: np.ndarray, edges: np.ndarray, links: np.ndarray) -> None:
    """Add a bit to the automaton. `links` holds each state's suffix link and longest length."""
    new, node = cursor[_SIZE], cursor[_LAST]
    cursor[_SIZE] += 1
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
            clone = cursor[_SIZE]
            cursor[_SIZE] += 1
            edges[clone] = edges[target]
            links[clone, 0], links[clone, 1] = links[target, 0], links[node, 1] + 1
            while node >= 0 and edges[node, bit] == target:
                edges[node, bit] = clone
                node = links[node, 0]
            links[target, 0] = links[new, 0] = clone
    cursor[_LAST] = new


@compiled
def _advance(
    bits: np.ndarray, cursor: np.ndarray, edges: np.ndarray, links: np.ndarray, ends: np.ndarray
) -> None:
    for t in range(bits.size):
        bit = bits[t]
        following = edges[cursor[_STATE], bit]
        ends[t] = following < 0
        cursor[_STATE] = 0 if ends[t] else following
        cursor[_LENGTH] = 0 if ends[t] else cursor[_LENGTH] + 1
        _append(bit, cursor, edges, links)
        # Cloning may have split the state of the open phrase. The right state is the one whose
        # lengths include the length of the phrase.
        while cursor[_STATE] and links[links[cursor[_STATE], 0], 1] >= cursor[_LENGTH]:
            cursor[_STATE] = links[cursor[_STATE], 0]


class PhraseParser:
    """The state of a parse. Reading in pieces gives the same phrases as reading at once."""

    def __init__(self) -> None:
        self.bits_read = 0
        """Number of bits read so far."""
        self._cursor = np.array([1, 0, 0, 0], np.int64)
        self._edges, self._links = _automaton(_FIRST_CAPACITY)

    @property
    def mid_phrase(self) -> bool:
        """Whether a phrase is open: it has begun, and so far it occurs earlier."""
        return bool(self._cursor[_LENGTH])

    def read(self, bits: Integer[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
        """Read bits and return whether each ends a phrase."""
        self._reserve(len(bits))
        ends = np.empty(len(bits), np.bool_)
        values = np.ascontiguousarray(bits, dtype=np.uint8)
        _advance(values, self._cursor, self._edges, self._links, ends)
        self.bits_read += len(bits)
        return ends

    def _reserve(self, bits: int) -> None:
        needed, used = 2 * (self.bits_read + bits) + 1, int(self._cursor[_SIZE])
        if needed > len(self._edges):
            edges, links = _automaton(1 << (2 * needed - 1).bit_length())
            edges[:used], links[:used] = self._edges[:used], self._links[:used]
            self._edges, self._links = edges, links


def _automaton(capacity: int) -> tuple[np.ndarray, np.ndarray]:
    links = np.zeros((capacity, 2), np.int32)
    links[0, 0] = -1
    return np.full((capacity, 2), -1, np.int32), links
