"""The context mixer along one sequence of bytes: it predicts bits, learns from them, and grows.

The codec runs the same functions over whole blocks; see `lockstep`. Here one bit follows another,
and a network's log-odds may join each of them.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from bit_transformer.compression.bit_history import BUCKET, PROBES, SLOTS, home_of
from bit_transformer.compression.contexts import (
    CONTEXTS,
    RICH_TEXT,
    TEXT,
    make_contexts,
    note_byte,
    profile_of,
)
from bit_transformer.compression.fixed_point import (
    MIN_PROBABILITY,
    ONE,
    STRETCH_LIMIT,
    STRETCH_SCALE,
    hashed,
)
from bit_transformer.compression.lanes import Lanes, new_lanes
from bit_transformer.compression.matches import MATCHES, find_matches
from bit_transformer.compression.mixing import (
    begin_byte,
    end_byte,
    find_buckets,
    predict,
    update,
)
from bit_transformer.compression.tables import Tables, learn_faster_again, new_tables
from bit_transformer.errors import CodecError
from bit_transformer.native.functions import compiled, compiled_lean, inlined

BYTE_BITS = 8
MAX_HISTORY_BYTES = (1 << 31) - 2
"""The mixer stores positions in its history as int32."""
_FIRST_ROOM = 1 << 16
"""Bytes of history that a new mixer has room for. The room doubles whenever it is used up."""
_NO_NETWORK = np.zeros(0, np.int32)


class Mixer:
    """The mixer's state after the bytes that it has read.

    It starts untrained and learns from each byte once all bits of the byte are read. All bits of a
    byte are therefore predicted from the same state, and `node_log_odds` at the beginning of a byte
    gives what `read` will return for any of its 256 values.
    """

    def __init__(self, *, profile: int, table_bits: int, network: bool) -> None:
        """`profile` is one of `contexts`. The hash table of contexts has 2**table_bits buckets of
        64 bytes, which take memory once they are used. `network` makes room for a network's
        log-odds."""
        self.profile, self.table_bits, self.network = profile, table_bits, network
        self.tables = new_tables(_FIRST_ROOM, table_bits, CONTEXTS[profile], network=network)
        self.lanes = new_lanes(1, CONTEXTS[profile])
        self._byte = Byte(np.zeros(BYTE_BITS, np.int64), np.zeros(MATCHES, np.int64))
        _begin(self.tables, self.lanes, profile)

    @property
    def bits_read(self) -> int:
        """Number of bits read."""
        return int(self.lanes.position[0]) * BYTE_BITS + int(self.lanes.bit_index[0])

    def copy(self) -> "Mixer":
        """Return an independent mixer in the same state."""
        twin = Mixer(profile=self.profile, table_bits=self.table_bits, network=self.network)
        if self.tables.clock[0] == 0 and not self.bits_read:
            return twin  # Nothing is learned yet, and copying would touch the whole empty table.
        twin._make_room(self.tables.history.size - 1)
        for own, other in zip(
            (*self.tables, *self.lanes, *self._byte),
            (*twin.tables, *twin.lanes, *twin._byte),
            strict=True,
        ):
            other[: len(own)] = own
        return twin

    def learn(self, data: UInt8[np.ndarray, " n"]) -> None:
        """Read bytes that a network has no say about, such as a dictionary. Afterwards the weights
        learn faster again, because that of the network has learned nothing yet."""
        self.learn_pieces([data])

    def learn_pieces(self, pieces: Iterable[UInt8[np.ndarray, " _"]]) -> None:
        """Do what `learn` does with all pieces as one. Each is taken when the last is learned."""
        assert self.lanes.bit_index[0] == 0, "a dictionary is read between bytes"
        for data in pieces:
            self._make_room(data.size + 1)
            _learn(self.tables, self.lanes, np.unpackbits(data), self.profile)
        if self.network:
            learn_faster_again(self.tables)

    def restore(self, learned: Mapping[str, np.ndarray], history: UInt8[np.ndarray, " n"]) -> None:
        """Take over the state of another mixer of these settings, which had begun a byte.

        `learned` has its tables by name, and as `places` the buckets of the byte. All other state
        follows from the bytes of its history, which are read again without predicting them.
        """
        self._make_room(history.size + 1)
        self.tables.history[: history.size] = history
        for name, values in learned.items():
            if name != "places":
                getattr(self.tables, name)[...] = values
        _remember(self.tables, self.lanes, history.size, learned["places"], self.profile)

    def read(
        self, bits: UInt8[np.ndarray, " T"], log_odds: Float32[np.ndarray, " T"] | None = None
    ) -> Float32[np.ndarray, " T"]:
        """Read bits; return the log-odds of a one that each had, given all bits before it.

        `log_odds` are a network's, for a mixer with room for them.
        """
        self._make_room(-(-bits.size // BYTE_BITS) + 1)
        scaled = _NO_NETWORK if log_odds is None else scaled_log_odds(log_odds)
        had = np.empty(bits.size, np.float32)
        _read(self.tables, self.lanes, self._byte, bits, scaled, had, self.profile)
        return had

    def node_log_odds(
        self, log_odds: Float32[np.ndarray, " nodes"]
    ) -> Float32[np.ndarray, " nodes"]:
        """Return the log-odds of a one at each node of a tree over the next bits, from a network's.

        `nodes` is 2**k for a tree of k bits, which must not reach beyond the current byte. Entry 0
        has no meaning. The state stays as it is.
        """
        out = np.zeros(log_odds.size, np.float32)
        _predict_nodes(self.tables, self.lanes, scaled_log_odds(log_odds), out)
        return out

    def _make_room(self, new_bytes: int) -> None:
        needed, room = int(self.lanes.position[0]) + new_bytes, self.tables.history.size
        if needed < room:
            return
        require_room(needed)
        history = np.zeros(max(2 * room, needed + 1), np.uint8)
        history[:room] = self.tables.history
        self.tables = self.tables._replace(history=history)


def require_room(history_bytes: int) -> None:
    """Raise `CodecError` for more bytes than a mixer can remember."""
    if history_bytes > MAX_HISTORY_BYTES:
        raise CodecError(
            f"a mixer remembers at most {MAX_HISTORY_BYTES:,} bytes, got {history_bytes:,}; give "
            "it less data, or leave out the mixer"
        )


def new_mixer(sample: UInt8[np.ndarray, " n"], *, table_bits: int, network: bool) -> Mixer:
    """Return an untrained mixer with the profile that suits data which begins like `sample`. Beside
    a network, whose time hides theirs, text gets all contexts."""
    profile = profile_of(sample)
    if network and profile == TEXT:
        profile = RICH_TEXT
    return Mixer(profile=profile, table_bits=table_bits, network=network)


def scaled_log_odds(log_odds: Float32[np.ndarray, " T"]) -> Int32[np.ndarray, " T"]:
    """Return log-odds as the integers of `fixed_point`."""
    limited = np.clip(np.nan_to_num(log_odds * STRETCH_SCALE), -STRETCH_LIMIT, STRETCH_LIMIT - 1)
    return np.rint(limited).astype(np.int32)


@compiled_lean
def _begin(tables: Tables, lanes: Lanes, profile: int) -> None:
    begin_byte(tables, lanes, 0, profile)


@compiled_lean
def _remember(tables: Tables, lanes: Lanes, length: int, places: np.ndarray, profile: int) -> None:
    """Read the history in lane 0 without predicting it, and begin the byte after it with buckets
    that are known. Looking them up again could replace others."""
    for position in range(1, length + 1):
        lanes.position[0] = position
        note_byte(lanes, 0, tables.history)
        find_matches(lanes, 0, tables.history, tables.heads)
    make_contexts(lanes, 0, tables.history, profile)
    lanes.node[0], lanes.bit_index[0] = 1, 0
    for index in range(tables.counts.size):
        lanes.buckets[0, index] = places[index]
        lanes.runs[0, index] = places[index] + SLOTS


class Byte(NamedTuple):
    """The current byte, until all its bits are known and the mixer learns from them."""

    log_odds: np.ndarray  # (8,) a network's log-odds for each bit that was read
    match_length: np.ndarray  # (2,) the match lengths at the beginning of the byte


@compiled_lean
def _learn(tables: Tables, lanes: Lanes, bits: np.ndarray, profile: int) -> None:
    """Read the bits of whole bytes into lane 0, without a network."""
    for index in range(bits.size):
        predict(tables, lanes, 0, 0)
        update(tables, lanes, 0, np.int64(bits[index]))
        if lanes.bit_index[0] == BYTE_BITS:
            end_byte(tables, lanes, 0)
            begin_byte(tables, lanes, 0, profile)


@compiled_lean
def _read(
    tables: Tables,
    lanes: Lanes,
    byte: Byte,
    bits: np.ndarray,
    network: np.ndarray,
    had: np.ndarray,
    profile: int,
) -> None:
    """Read bits into lane 0, and put the log-odds of each into `had`."""
    for index in range(bits.size):
        log_odds = np.int64(network[index]) if network.size else 0
        if lanes.bit_index[0] == 0:
            _copy_lengths(lanes.match_length[0], byte.match_length)
        had[index] = _final_log_odds(predict(tables, lanes, 0, log_odds), log_odds)
        byte.log_odds[lanes.bit_index[0]] = log_odds
        lanes.node[0] = (lanes.node[0] << 1) | np.int64(bits[index])
        lanes.bit_index[0] += 1
        if lanes.bit_index[0] == 4:
            find_buckets(tables, lanes, 0)
        if lanes.bit_index[0] == BYTE_BITS:
            _learn_byte(tables, lanes, byte)
            begin_byte(tables, lanes, 0, profile)


@inlined
def _learn_byte(tables: Tables, lanes: Lanes, byte: Byte) -> None:
    """Learn from the current byte, bit by bit from its beginning."""
    value = lanes.node[0] & 255
    lanes.node[0], lanes.bit_index[0] = 1, 0
    for index in range(tables.counts.size):
        lanes.buckets[0, index] = lanes.runs[0, index] - SLOTS
    _copy_lengths(byte.match_length, lanes.match_length[0])
    for index in range(BYTE_BITS):
        predict(tables, lanes, 0, byte.log_odds[index])
        update(tables, lanes, 0, (value >> (7 - index)) & 1)
    end_byte(tables, lanes, 0)


@inlined
def _copy_lengths(source: np.ndarray, target: np.ndarray) -> None:
    for model in range(MATCHES):
        target[model] = source[model]


# Sixteen bits of probability end at 0.9998. Eight such bits would let one sampled byte in 500 be
# noise. Where the mixer is at that limit and the network is surer, the network's log-odds count.
@inlined
def _final_log_odds(probability: int, network: int) -> float:
    log_odds = np.log(probability / (ONE - probability))
    surer = network / STRETCH_SCALE
    if probability >= ONE - MIN_PROBABILITY and surer > log_odds:
        return surer
    if probability <= MIN_PROBABILITY and surer < log_odds:
        return surer
    return log_odds


@compiled
def _predict_nodes(tables: Tables, lanes: Lanes, network: np.ndarray, out: np.ndarray) -> None:
    """Predict every node below the current one. Whatever that changes is put back."""
    root, known = lanes.node[0], lanes.bit_index[0]
    buckets, lengths = lanes.buckets[0].copy(), lanes.match_length[0].copy()
    held = np.empty((buckets.size, PROBES, BUCKET), np.uint16)
    depth = 0
    while 1 << depth < out.size:
        for place in range(1 << depth):
            lanes.node[0], lanes.bit_index[0] = (root << depth) | place, known + depth
            if known + depth >= 4 and known < 4:
                if known + depth == 4:
                    _predict_half(tables, lanes, network, out, depth, place, held, lengths)
                    for index in range(buckets.size):
                        lanes.buckets[0, index] = buckets[index]
                continue
            _predict_node(tables, lanes, network, out, (1 << depth) | place, lengths)
        depth += 1
    lanes.node[0], lanes.bit_index[0] = root, known
    for index in range(buckets.size):
        lanes.buckets[0, index] = buckets[index]


@inlined
def _predict_node(
    tables: Tables,
    lanes: Lanes,
    network: np.ndarray,
    out: np.ndarray,
    node: int,
    lengths: np.ndarray,
) -> None:
    log_odds = np.int64(network[node])
    out[node] = _final_log_odds(predict(tables, lanes, 0, log_odds), log_odds)
    for model in range(MATCHES):
        lanes.match_length[0, model] = lengths[model]


@inlined
def _predict_half(
    tables: Tables,
    lanes: Lanes,
    network: np.ndarray,
    out: np.ndarray,
    depth: int,
    place: int,
    held: np.ndarray,
    lengths: np.ndarray,
) -> None:
    """Predict the nodes of a second half byte. Looking up its buckets may replace others, so the
    candidates are kept and put back."""
    half_root = lanes.node[0]
    for index in range(held.shape[0]):
        context = hashed(lanes.contexts[0, index], half_root)
        _copy_candidates(tables.buckets, home_of(tables.buckets, context), held[index], False)
    find_buckets(tables, lanes, 0)
    below = 0
    while 1 << (depth + below) < out.size:
        for end in range(1 << below):
            lanes.node[0], lanes.bit_index[0] = (half_root << below) | end, 4 + below
            node = (1 << (depth + below)) | (place << below) | end
            _predict_node(tables, lanes, network, out, node, lengths)
        below += 1
    for index in range(held.shape[0]):
        context = hashed(lanes.contexts[0, index], half_root)
        _copy_candidates(tables.buckets, home_of(tables.buckets, context), held[index], True)


@inlined
def _copy_candidates(buckets: np.ndarray, home: int, held: np.ndarray, back: bool) -> None:
    for step in range(PROBES):
        first = home ^ (step * BUCKET)
        for place in range(BUCKET):
            if back:
                buckets[first + place] = held[step, place]
            else:
                held[step, place] = buckets[first + place]
