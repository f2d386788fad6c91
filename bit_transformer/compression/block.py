"""Codes one block: lanes in lock-step, in segments that are checked and stored one by one.

A block begins knowing nothing but what was given beforehand, so blocks stand or fall alone. Within
a block every segment builds on the ones before it.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.config import LEAST_TABLE_BITS, MOST_TABLE_BITS
from bit_transformer.compression.contexts import CONTEXTS, RICH_TEXT, TEXT, profile_of
from bit_transformer.compression.lanes import Lanes, new_lanes
from bit_transformer.compression.lockstep import (
    DECODE,
    ENCODE,
    LEARN,
    Plan,
    code_patches,
    code_patches_with_network,
)
from bit_transformer.compression.network import Network
from bit_transformer.compression.range_coder import finish, new_coder, new_decoder
from bit_transformer.compression.tables import new_tables, table_bytes

_LANE_BYTES = 4096
"""A lane has at least so many, because it begins with no context."""
_BUCKETS_PER_BYTE = 8
_BYTE_BITS = 8
_CLOCK_OF_A_BEGINNER = 60_000
"""Bits after which the mixer's weights learn four times as fast as in the end."""
_ROUNDS_AT_ONCE = 1024
_NO_BYTES = np.zeros(0, np.uint8)

Progress = Callable[[int], None]
"""Called with how many more bytes are done."""


@dataclass(frozen=True)
class BlockShape:
    """What a decoder has to know of a block before its first segment."""

    raw_bytes: int
    segment_bytes: int
    lanes: int
    profile: int
    """See `contexts`."""
    table_bits: int
    """The hash table of contexts has 2**table_bits buckets."""


def block_shape(
    data: UInt8[np.ndarray, " n"],
    given: UInt8[np.ndarray, " m"],
    *,
    segment_bytes: int,
    lanes: int,
    table_bits: int,
    rich: bool,
) -> BlockShape:
    """How to code `data` in up to so many lanes, after what was `given`, with a table as large as
    they can fill and 2**table_bits buckets at most; text with twice the contexts, if `rich`."""
    profile = profile_of(data if len(data) else given)
    return BlockShape(
        raw_bytes=len(data),
        segment_bytes=segment_bytes,
        lanes=max(1, min(lanes, len(data) // _LANE_BYTES)),
        profile=RICH_TEXT if rich and profile == TEXT else profile,
        table_bits=min(table_bits_for(len(data) + len(given)), table_bits),
    )


def table_bits_for(size: int) -> int:
    """Of the table that so many bytes fill, within the limits."""
    return min(max((size * _BUCKETS_PER_BYTE).bit_length(), LEAST_TABLE_BITS), MOST_TABLE_BITS)


def memory_of(shape: BlockShape, given_bytes: int, *, network: bool) -> int:
    """Bytes that coding such a block in one direction takes, a network's own not counted."""
    return table_bytes(
        given_bytes + shape.raw_bytes, shape.table_bits, CONTEXTS[shape.profile], network=network
    )


@dataclass(frozen=True)
class Segment:
    """A stretch of every lane, coded, or stored where coding would have made it longer."""

    payload: bytes
    stored: bool
    raw_crc: int
    """CRC-32 of the bytes of its lanes, one lane after the other."""


class BlockCoder:
    """Codes the segments of one block in order, in one direction.

    `given` is what both sides have read beforehand. A `network` takes part where there is one.
    """

    def __init__(
        self,
        shape: BlockShape,
        *,
        network: Network | None = None,
        given: UInt8[np.ndarray, " m"] = _NO_BYTES,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self.shape, self._first = shape, len(given)
        patch, byte = 8, _BYTE_BITS
        if network is not None:
            patch, byte = network.patch_size, network.bits_per_byte
        self._patch_size, self._byte_bits = patch, byte
        self._tables = new_tables(
            self._first + shape.raw_bytes,
            shape.table_bits,
            CONTEXTS[shape.profile],
            network=network is not None,
        )
        self._has_network = network is not None
        self._lanes = self._new_lanes(given)
        self._reader = None if network is None else network.begin(shape.lanes)
        self._patches = np.zeros(shape.lanes, np.int64)
        self._no_odds = np.zeros((shape.lanes, 0), np.int32)
        self._told = int(self._lanes.position.sum())
        self._rounds_left = -(-int((self._lanes.end - self._lanes.position).max()) * byte // patch)

    def _new_lanes(self, given: np.ndarray) -> Lanes:
        count = self.shape.lanes
        reading = new_lanes(1, CONTEXTS[self.shape.profile])
        reading.end[0] = self._first
        if self._first:
            plan = Plan(LEARN, 0, self.shape.profile, 8, _BYTE_BITS, self._first)
            patch, nothing = np.zeros(1, np.int64), np.zeros((1, 0), np.int32)
            code_patches(
                new_coder(), _NO_BYTES.copy(), self._tables, reading, given, nothing, patch, plan
            )
            if self._has_network:
                # Only now do the weights of what the network says begin to learn.
                self._tables.clock[0] = min(int(self._tables.clock[0]), _CLOCK_OF_A_BEGINNER)
        lanes = reading if count == 1 else new_lanes(count, CONTEXTS[self.shape.profile])
        edges = self._first + np.arange(count + 1) * self.shape.raw_bytes // count
        lanes.position[:], lanes.end[:] = edges[:-1], edges[1:]
        return lanes

    @property
    def segments(self) -> int:
        """How many are still to come."""
        return -(-self._rounds_left // self._rounds_of_segment)

    @property
    def _rounds_of_segment(self) -> int:
        """Whole patches that are whole bytes in every lane."""
        per_lane = self.shape.segment_bytes // self.shape.lanes
        return max(1, per_lane // self._patch_size) * self._byte_bits

    def encode(self, data: UInt8[np.ndarray, " n"]) -> Iterator[Segment]:
        """All segments of the block's bytes, each coded when it is asked for."""
        for _ in range(self.segments):
            raw = self._next_bytes(data)
            coder, buffer = new_coder(), np.zeros(len(raw), np.uint8)
            self._run(ENCODE, coder, buffer, data)
            length = finish(coder, buffer)
            stored = length >= len(raw)
            payload = raw if stored else buffer[:length]
            yield Segment(payload.tobytes(), stored, zlib.crc32(raw))

    def decode(self, segment: Segment) -> bool:
        """The next segment; False when the bytes are not those that were encoded, after which the
        block cannot go on."""
        begin = self._lanes.position.copy()
        payload = np.frombuffer(segment.payload, np.uint8).copy()
        if segment.stored:
            data = np.zeros(self.shape.raw_bytes, np.uint8)
            if not self._place(payload, data):
                return False
            self._run(LEARN, new_coder(), payload, data)
        else:
            self._run(DECODE, new_decoder(payload), payload, _NO_BYTES.copy())
        if zlib.crc32(self._between(begin, self._lanes.position)) == segment.raw_crc:
            return True
        self._forget_since(begin)
        return False

    def _forget_since(self, begin: np.ndarray) -> None:
        """What was decoded wrong is not decoded."""
        for at, end in zip(begin, self._lanes.position, strict=True):
            self._tables.history[at:end] = 0
        self._lanes.position[:] = begin

    def decoded(self) -> UInt8[np.ndarray, " n"]:
        """The bytes of the block; zeros where none is decoded yet."""
        return self._tables.history[self._first : self._first + self.shape.raw_bytes]

    def missing(self) -> list[tuple[int, int]]:
        """(begin, end) of each stretch of the block that is not decoded yet."""
        pairs = zip(self._lanes.position, self._lanes.end, strict=True)
        return [
            (int(at) - self._first, int(end) - self._first) for at, end in pairs if int(at) < end
        ]

    def _run(self, direction: int, coder: np.ndarray, buffer: np.ndarray, data: np.ndarray) -> None:
        """Code the rounds of one segment, and tell now and then how far it is."""
        rounds = min(self._rounds_of_segment, self._rounds_left)
        self._rounds_left -= rounds
        while rounds:
            taken = min(rounds, _ROUNDS_AT_ONCE)
            shape = (self.shape.profile, self._patch_size, self._byte_bits, taken)
            arrays = (coder, buffer, self._tables, self._lanes, data)
            self._code(arrays, Plan(direction, self._first, *shape))
            rounds -= taken
            self._tell()

    def _code(self, arrays: tuple[Any, ...], plan: Plan) -> None:
        if self._reader is None:
            code_patches(*arrays, self._no_odds, self._patches, plan)
            return
        if (trunk := self._reader.trunk) is not None:
            log_odds = self._reader.log_odds
            code_patches_with_network(*arrays, log_odds, self._patches, plan, trunk)
            return
        for _ in range(plan.patches):
            one = plan._replace(patches=1)
            code_patches(*arrays, self._reader.log_odds, self._patches, one)
            self._reader.read(self._patches)

    def _tell(self) -> None:
        """How many bytes were coded since it was told last."""
        at = int(self._lanes.position.sum())
        if self._progress is not None:
            self._progress(at - self._told)
        self._told = at

    def _segment_ends(self) -> np.ndarray:
        read = self._rounds_of_segment * self._patch_size // self._byte_bits
        return np.minimum(self._lanes.position + read, self._lanes.end)

    def _next_bytes(self, data: np.ndarray) -> np.ndarray:
        pieces = [
            data[at - self._first : end - self._first]
            for at, end in zip(self._lanes.position, self._segment_ends(), strict=True)
        ]
        return np.concatenate(pieces)

    def _place(self, payload: np.ndarray, data: np.ndarray) -> bool:
        """Put the next bytes of all lanes where they belong; whether they are as many."""
        taken = 0
        for at, end in zip(self._lanes.position, self._segment_ends(), strict=True):
            piece = payload[taken : taken + end - at]
            if len(piece) < end - at:
                return False
            data[at - self._first : end - self._first] = piece
            taken += end - at
        return bool(taken == len(payload))

    def _between(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        pairs = zip(begin, end, strict=True)
        return np.concatenate([self._tables.history[at:stop] for at, stop in pairs])
