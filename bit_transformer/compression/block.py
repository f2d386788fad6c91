"""Codes one block: its lanes in lock-step, in segments that are checked and stored one by one.

Every block starts from the dictionary alone, so that damage in one block leaves the others whole.
Within a block, each segment builds on what was learned from the segments before it.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.config import MAX_TABLE_BITS, MIN_TABLE_BITS
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
from bit_transformer.compression.tables import learn_faster_again, new_tables, table_bytes

_MIN_LANE_BYTES = 4096
"""A shorter lane is not worth it, because each lane begins without context."""
_BUCKETS_PER_BYTE = 8
_BYTE_BITS = 8
_ROUNDS_AT_ONCE = 1024
"""Patches per lane between two reports of progress, which are also chances to interrupt."""
_NO_BYTES = np.zeros(0, np.uint8)

Progress = Callable[[int], None]
"""Called with the number of bytes coded since the last call."""


@dataclass(frozen=True)
class BlockShape:
    """The settings that a decoder needs before a block's first segment."""

    raw_bytes: int
    segment_bytes: int
    lanes: int
    profile: int
    """Profile of contexts; see `contexts`."""
    table_bits: int
    """The hash table of contexts has 2**table_bits buckets."""


def block_shape(
    data: UInt8[np.ndarray, " n"],
    dictionary: UInt8[np.ndarray, " m"],
    *,
    segment_bytes: int,
    lanes: int,
    table_bits: int,
    rich: bool,
) -> BlockShape:
    """Choose how to code `data` after the dictionary, within the limits given. The table is as
    large as both can fill, and text gets the rich profile if `rich`."""
    profile = profile_of(data if len(data) else dictionary)
    return BlockShape(
        raw_bytes=len(data),
        segment_bytes=segment_bytes,
        lanes=max(1, min(lanes, len(data) // _MIN_LANE_BYTES)),
        profile=RICH_TEXT if rich and profile == TEXT else profile,
        table_bits=min(table_bits_for(len(data) + len(dictionary)), table_bits),
    )


def table_bits_for(size: int) -> int:
    """Return the size, as a power of two, of the table that this many bytes can fill."""
    return min(max((size * _BUCKETS_PER_BYTE).bit_length(), MIN_TABLE_BITS), MAX_TABLE_BITS)


def memory_of(shape: BlockShape, dictionary_bytes: int, *, network: bool) -> int:
    """Return the memory that coding a block takes in one direction, without the network's own."""
    history, contexts = dictionary_bytes + shape.raw_bytes, CONTEXTS[shape.profile]
    return table_bytes(history, shape.table_bits, contexts, network=network)


@dataclass(frozen=True)
class Segment:
    """A stretch of every lane. It is coded, or stored if its code would not be shorter."""

    payload: bytes
    stored: bool
    raw_crc: int
    """CRC-32 of its uncompressed bytes, one lane after the other."""


class BlockCoder:
    """Codes the segments of one block in order, in one direction.

    Both sides learn the dictionary first. The network's predictions, if any, join the mixer's.
    """

    def __init__(
        self,
        shape: BlockShape,
        *,
        network: Network | None = None,
        dictionary: UInt8[np.ndarray, " m"] = _NO_BYTES,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self.shape, self._data_start = shape, len(dictionary)
        patch, byte = 8, _BYTE_BITS
        if network is not None:
            patch, byte = network.patch_size, network.bits_per_byte
        self._patch_size, self._byte_bits = patch, byte
        self._tables = new_tables(
            self._data_start + shape.raw_bytes,
            shape.table_bits,
            CONTEXTS[shape.profile],
            network=network is not None,
        )
        self._has_network = network is not None
        self._lanes = self._new_lanes(dictionary)
        self._reader = None if network is None else network.begin(shape.lanes)
        self._patches = np.zeros(shape.lanes, np.int64)
        self._no_log_odds = np.zeros((shape.lanes, 0), np.int32)
        self._reported = int(self._lanes.position.sum())
        self._rounds_left = -(-int((self._lanes.end - self._lanes.position).max()) * byte // patch)

    def _new_lanes(self, dictionary: np.ndarray) -> Lanes:
        """Learn the dictionary as one lane, and return the lanes of the block behind it."""
        count = self.shape.lanes
        first = new_lanes(1, CONTEXTS[self.shape.profile])
        first.end[0] = self._data_start
        if self._data_start:
            plan = Plan(LEARN, 0, self.shape.profile, 8, _BYTE_BITS, self._data_start)
            arrays = (new_coder(), _NO_BYTES.copy(), self._tables, first, dictionary)
            code_patches(*arrays, np.zeros((1, 0), np.int32), np.zeros(1, np.int64), plan)
            if self._has_network:
                learn_faster_again(self._tables)
        lanes = first if count == 1 else new_lanes(count, CONTEXTS[self.shape.profile])
        edges = self._data_start + np.arange(count + 1) * self.shape.raw_bytes // count
        lanes.position[:], lanes.end[:] = edges[:-1], edges[1:]
        return lanes

    @property
    def segments(self) -> int:
        """Number of segments still to be coded."""
        return -(-self._rounds_left // self._rounds_of_segment)

    @property
    def _rounds_of_segment(self) -> int:
        """Number of patches per lane in a segment. Together they are whole bytes."""
        per_lane = self.shape.segment_bytes // self.shape.lanes
        return max(1, per_lane // self._patch_size) * self._byte_bits

    def encode(self, data: UInt8[np.ndarray, " n"]) -> Iterator[Segment]:
        """Yield all segments of the block's bytes, each coded when it is requested."""
        for _ in range(self.segments):
            raw = self._next_bytes(data)
            coder, buffer = new_coder(), np.zeros(len(raw), np.uint8)
            self._run(ENCODE, coder, buffer, data)
            length = finish(coder, buffer)
            stored = length >= len(raw)
            payload = raw if stored else buffer[:length]
            yield Segment(payload.tobytes(), stored, zlib.crc32(raw))

    def decode(self, segment: Segment) -> bool:
        """Decode the next segment. False means that its bytes are not those that were encoded; the
        rest of the block then cannot be decoded, because it builds on them."""
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
        self._discard_since(begin)
        return False

    def _discard_since(self, begin: np.ndarray) -> None:
        """Take back what was decoded wrongly."""
        for at, end in zip(begin, self._lanes.position, strict=True):
            self._tables.history[at:end] = 0
        self._lanes.position[:] = begin

    def decoded(self) -> UInt8[np.ndarray, " n"]:
        """Return the bytes of the block, with zeros for those that are not decoded yet."""
        return self._tables.history[self._data_start : self._data_start + self.shape.raw_bytes]

    def missing(self) -> list[tuple[int, int]]:
        """Return (begin, end) of each stretch of the block that is not decoded yet."""
        start, pairs = self._data_start, zip(self._lanes.position, self._lanes.end, strict=True)
        return [(int(at) - start, int(end) - start) for at, end in pairs if int(at) < end]

    def _run(self, direction: int, coder: np.ndarray, buffer: np.ndarray, data: np.ndarray) -> None:
        """Code the patches of one segment, and report progress in between."""
        rounds = min(self._rounds_of_segment, self._rounds_left)
        self._rounds_left -= rounds
        while rounds:
            taken = min(rounds, _ROUNDS_AT_ONCE)
            shape = (self.shape.profile, self._patch_size, self._byte_bits, taken)
            arrays = (coder, buffer, self._tables, self._lanes, data)
            self._code(arrays, Plan(direction, self._data_start, *shape))
            rounds -= taken
            self._report_progress()

    def _code(self, arrays: tuple[Any, ...], plan: Plan) -> None:
        if self._reader is None:
            code_patches(*arrays, self._no_log_odds, self._patches, plan)
            return
        if (trunk := self._reader.trunk) is not None:
            log_odds = self._reader.log_odds
            code_patches_with_network(*arrays, log_odds, self._patches, plan, trunk)
            return
        for _ in range(plan.patches):
            one = plan._replace(patches=1)
            code_patches(*arrays, self._reader.log_odds, self._patches, one)
            self._reader.read(self._patches)

    def _report_progress(self) -> None:
        at = int(self._lanes.position.sum())
        if self._progress is not None:
            self._progress(at - self._reported)
        self._reported = at

    def _segment_ends(self) -> np.ndarray:
        read = self._rounds_of_segment * self._patch_size // self._byte_bits
        return np.minimum(self._lanes.position + read, self._lanes.end)

    def _next_bytes(self, data: np.ndarray) -> np.ndarray:
        pieces = [
            data[at - self._data_start : end - self._data_start]
            for at, end in zip(self._lanes.position, self._segment_ends(), strict=True)
        ]
        return np.concatenate(pieces)

    def _place(self, payload: np.ndarray, data: np.ndarray) -> bool:
        """Put the next bytes of all lanes into `data`; False if the payload has another length."""
        taken = 0
        for at, end in zip(self._lanes.position, self._segment_ends(), strict=True):
            piece = payload[taken : taken + end - at]
            if len(piece) < end - at:
                return False
            data[at - self._data_start : end - self._data_start] = piece
            taken += end - at
        return bool(taken == len(payload))

    def _between(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        pairs = zip(begin, end, strict=True)
        return np.concatenate([self._tables.history[at:stop] for at, stop in pairs])
