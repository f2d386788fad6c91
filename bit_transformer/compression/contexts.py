"""The contexts that a byte is predicted from."""

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.fixed_point import hashed
from bit_transformer.compression.lanes import MAX_RECORD, Lanes, byte_at
from bit_transformer.compression.text_contexts import (
    more_text_contexts,
    note_text,
    text_contexts,
)
from bit_transformer.native.functions import inlined

TEXT, BINARY, RICH_TEXT = 0, 1, 2
"""Profiles."""
CONTEXTS = (16, 16, 30)
"""Hashed contexts of each; the first five are the last 1, 2, 3, 4 and 6 bytes."""
ORDERS = 5
_SAMPLE_BYTES = 4096
_PRINTABLE_PERCENT = 90
_FORGET_EVERY = 1024


def profile_of(data: UInt8[np.ndarray, " n"]) -> int:
    """TEXT or BINARY, by how much of the beginning can be printed."""
    sample = data[:_SAMPLE_BYTES]
    printable = ((sample >= 32) & (sample < 128)) | (sample == 9) | (sample == 10) | (sample == 13)
    return TEXT if 100 * int(printable.sum()) >= _PRINTABLE_PERCENT * len(sample) else BINARY


@inlined
def note_byte(lanes: Lanes, lane: int, history: np.ndarray) -> None:
    """Take notice of the byte before the lane's position."""
    position = lanes.position[lane]
    last, before = byte_at(history, position - 1), byte_at(history, position - 2)
    note_text(lanes, lane, history)
    _note_record(lanes, lane, position, (before << 8) | last)


@inlined
def _note_record(lanes: Lanes, lane: int, position: int, pair: int) -> None:
    """The record length is the distance that pairs of bytes are most often repeated at."""
    distances = lanes.distances[lane]
    seen = lanes.last_seen[lane, pair]
    distance = position - seen
    if seen > 0 and 1 < distance < MAX_RECORD:
        distances[distance] += 1
        if distances[distance] > distances[lanes.record_length[lane]]:
            lanes.record_length[lane] = distance
    lanes.last_seen[lane, pair] = position
    if position % _FORGET_EVERY == 0:
        for index in range(MAX_RECORD):
            distances[index] = distances[index] * 3 // 4


@inlined
def make_contexts(lanes: Lanes, lane: int, history: np.ndarray, profile: int) -> None:
    """Hash the contexts of the byte at the lane's position."""
    out = lanes.contexts[lane]
    position = lanes.position[lane]
    last, before = byte_at(history, position - 1), byte_at(history, position - 2)
    four = last | (before << 8)
    four |= (byte_at(history, position - 3) << 16) | (byte_at(history, position - 4) << 24)
    five, six = byte_at(history, position - 5), byte_at(history, position - 6)
    out[0] = hashed(np.uint64(1), last)
    out[1] = hashed(np.uint64(2), four & 0xFFFF)
    out[2] = hashed(np.uint64(3), four & 0xFFFFFF)
    out[3] = hashed(np.uint64(4), four)
    out[4] = hashed(hashed(np.uint64(5), four), five | (six << 8))
    column = min(255, position - lanes.lines[lane, 0])
    if profile == BINARY:
        _binary_contexts(out, lanes, lane, four, column, history)
        return
    text_contexts(out, lanes, lane, four, column)
    if profile == RICH_TEXT:
        seven = five | (six << 8) | (byte_at(history, position - 7) << 16)
        more_text_contexts(
            out, lanes, lane, four, column, hashed(hashed(np.uint64(7), four), seven)
        )


@inlined
def _binary_contexts(
    out: np.ndarray, lanes: Lanes, lane: int, four: int, column: int, history: np.ndarray
) -> None:
    length = max(lanes.record_length[lane], 2) if lanes.record_length[lane] else 4
    position = lanes.position[lane]
    up, two_up = byte_at(history, position - length), byte_at(history, position - 2 * length)
    place = lanes.lines[lane, 1] + column
    above = byte_at(history, place) if place < position else 0
    field = position % length
    last, pair, five = four & 0xFF, four & 0xFFFF, byte_at(history, position - 5)
    seven = five | (byte_at(history, position - 6) << 8) | (byte_at(history, position - 7) << 16)
    out[5] = hashed(hashed(np.uint64(19), four), five)
    out[6] = hashed(hashed(np.uint64(20), four), seven)
    out[7] = hashed(hashed(np.uint64(21), up | (pair << 8)), two_up)
    out[8] = hashed(np.uint64(22), four & 0xFFFF00)
    out[9] = hashed(np.uint64(23), four & 0xFF00FF00)
    out[10] = hashed(hashed(np.uint64(24), up | (two_up << 8)), length)
    out[11] = hashed(hashed(np.uint64(25), up | (last << 8)), length)
    out[12] = hashed(hashed(np.uint64(26), field), length)
    out[13] = hashed(hashed(np.uint64(27), up | (field << 16)), length)
    out[14] = hashed(hashed(np.uint64(28), field | (last << 16)), length)
    out[15] = hashed(np.uint64(29), above | (last << 8) | (column << 16))
