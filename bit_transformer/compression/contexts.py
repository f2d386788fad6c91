"""The contexts that a byte is predicted from, and what a lane remembers to make them.

A lane is one of the stretches of a block that are coded in lock-step. Lanes share all tables; each
has its own place in the block, and its own words, lines and records.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.fixed_point import hashed
from bit_transformer.telemetry.native import inlined

CONTEXTS = 16
"""Hashed contexts of each profile; the first seven are the last 1 to 7 bytes."""
ORDERS = 7
TEXT, BINARY = 0, 1
"""Profiles."""
_SAMPLE_BYTES = 4096
_PRINTABLE_PERCENT = 90
_MAX_RECORD = 2048
_FORGET_EVERY = 1024
_PAIRS = 1 << 16


class Lanes(NamedTuple):
    """What is known of each of L lanes; every array has L rows."""

    position: np.ndarray
    """Of the next byte in the history."""
    end: np.ndarray
    """Position after the last byte."""
    node: np.ndarray
    """The bits known of the current byte behind a leading one: a node of the bit tree."""
    bit_index: np.ndarray
    """How many they are."""
    contexts: np.ndarray
    """(L, CONTEXTS) hashes for the current byte."""
    buckets: np.ndarray
    """(L, CONTEXTS) first slot of each for the current half byte."""
    runs: np.ndarray
    """(L, CONTEXTS) entry of each in the table of runs."""
    words: np.ndarray
    """(L, 3) hashes of the current word and the two before it."""
    word_length: np.ndarray
    word_ended_by: np.ndarray
    lines: np.ndarray
    """(L, 2) where the current line begins, and where the one before it."""
    record_length: np.ndarray
    distances: np.ndarray
    """(L, 2048) how often the last two bytes had been seen so many bytes ago."""
    last_seen: np.ndarray
    """(L, 65536) position after each pair of bytes."""
    followers: np.ndarray
    """(L, 256) the last three bytes that came after each byte."""
    match_at: np.ndarray
    """(L, 2) the byte that each match model expects next."""
    match_length: np.ndarray


def new_lanes(count: int) -> Lanes:
    """Lanes that have read nothing and have nothing to read."""

    def numbers(*shape: int) -> np.ndarray:
        return np.zeros((count, *shape), np.int64)

    return Lanes(
        position=numbers(),
        end=numbers(),
        node=np.ones(count, np.int64),
        bit_index=numbers(),
        contexts=np.zeros((count, CONTEXTS), np.uint64),
        buckets=numbers(CONTEXTS),
        runs=numbers(CONTEXTS),
        words=np.zeros((count, 3), np.uint64),
        word_length=numbers(),
        word_ended_by=numbers(),
        lines=numbers(2),
        record_length=numbers(),
        distances=np.zeros((count, _MAX_RECORD), np.int32),
        last_seen=np.zeros((count, _PAIRS), np.int32),
        followers=np.zeros((count, 256), np.int32),
        match_at=numbers(2),
        match_length=numbers(2),
    )


def profile_of(data: UInt8[np.ndarray, " n"]) -> int:
    """TEXT or BINARY, by how much of the beginning can be printed."""
    sample = data[:_SAMPLE_BYTES]
    printable = ((sample >= 32) & (sample < 128)) | (sample == 9) | (sample == 10) | (sample == 13)
    return TEXT if 100 * int(printable.sum()) >= _PRINTABLE_PERCENT * len(sample) else BINARY


@inlined
def byte_at(history: np.ndarray, position: int) -> int:
    """A byte of the history, 0 before its beginning."""
    return np.int64(history[position]) if position >= 0 else 0


@inlined
def note_byte(lanes: Lanes, lane: int, history: np.ndarray) -> None:
    """Take notice of the byte before the lane's position: words, lines, records, followers."""
    position = lanes.position[lane]
    last, before = byte_at(history, position - 1), byte_at(history, position - 2)
    _note_word(lanes, lane, last)
    if last == 10:
        lanes.lines[lane, 1] = lanes.lines[lane, 0]
        lanes.lines[lane, 0] = position
    lanes.followers[lane, before] = ((lanes.followers[lane, before] << 8) | last) & 0xFFFFFF
    _note_record(lanes, lane, position, (before << 8) | last)


@inlined
def _note_word(lanes: Lanes, lane: int, last: int) -> None:
    words = lanes.words[lane]
    letter = last + 32 if 65 <= last <= 90 else last
    if 97 <= letter <= 122 or letter >= 128:
        words[0] = hashed(words[0] + np.uint64(1), letter)
        lanes.word_length[lane] += 1
        return
    lanes.word_length[lane] = 0
    if words[0] != 0:
        words[2], words[1], words[0] = words[1], words[0], np.uint64(0)
        lanes.word_ended_by[lane] = last


@inlined
def _note_record(lanes: Lanes, lane: int, position: int, pair: int) -> None:
    """The record length is the distance that pairs of bytes are most often repeated at."""
    distances = lanes.distances[lane]
    seen = lanes.last_seen[lane, pair]
    distance = position - seen
    if seen > 0 and 1 < distance < _MAX_RECORD:
        distances[distance] += 1
        if distances[distance] > distances[lanes.record_length[lane]]:
            lanes.record_length[lane] = distance
    lanes.last_seen[lane, pair] = position
    if position % _FORGET_EVERY == 0:
        for index in range(_MAX_RECORD):
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
    seven = byte_at(history, position - 7)
    out[0] = hashed(np.uint64(1), last)
    out[1] = hashed(np.uint64(2), four & 0xFFFF)
    out[2] = hashed(np.uint64(3), four & 0xFFFFFF)
    out[3] = hashed(np.uint64(4), four)
    out[4] = hashed(hashed(np.uint64(5), four), five)
    out[5] = hashed(hashed(np.uint64(6), four), five | (six << 8))
    out[6] = hashed(hashed(np.uint64(7), four), five | (six << 8) | (seven << 16))
    column = min(255, position - lanes.lines[lane, 0])
    place = lanes.lines[lane, 1] + column
    above = byte_at(history, place) if place < position and profile == BINARY else 0
    out[15] = hashed(np.uint64(8), above | (last << 8) | (column << 16))
    if profile == TEXT:
        _text_contexts(out, lanes, lane, four)
    else:
        _binary_contexts(out, lanes, lane, four, history)


@inlined
def _text_contexts(out: np.ndarray, lanes: Lanes, lane: int, four: int) -> None:
    word, last = lanes.words[lane, 0], four & 0xFF
    first, second = lanes.words[lane, 1], lanes.words[lane, 2]
    two_words = hashed(word + np.uint64(10), np.int64(first))
    out[7] = hashed(word + np.uint64(9), last)
    out[8] = two_words
    out[9] = hashed(word + np.uint64(11), np.int64(second))
    out[10] = hashed(two_words, np.int64(second))
    out[11] = hashed(word + np.uint64(12), lanes.word_ended_by[lane])
    out[12] = hashed(np.uint64(13), four & 0xF0F0F0F0)
    out[13] = hashed(np.uint64(14), ((lanes.followers[lane, last] & 0xFFFF) << 8) | last)
    out[14] = hashed(np.uint64(15), four & 0xFFFFFF00)


@inlined
def _binary_contexts(
    out: np.ndarray, lanes: Lanes, lane: int, four: int, history: np.ndarray
) -> None:
    length = max(lanes.record_length[lane], 2) if lanes.record_length[lane] else 4
    position = lanes.position[lane]
    up, two_up = byte_at(history, position - length), byte_at(history, position - 2 * length)
    column = position % length
    last, pair = four & 0xFF, four & 0xFFFF
    out[7] = hashed(hashed(np.uint64(21), up | (pair << 8)), two_up)
    out[8] = hashed(np.uint64(22), four & 0xFFFF00)
    out[9] = hashed(np.uint64(23), four & 0xFF00FF00)
    out[10] = hashed(hashed(np.uint64(24), up | (two_up << 8)), length)
    out[11] = hashed(hashed(np.uint64(25), up | (last << 8)), length)
    out[12] = hashed(hashed(np.uint64(26), column), length)
    out[13] = hashed(hashed(np.uint64(27), up | (column << 16)), length)
    out[14] = hashed(hashed(np.uint64(28), column | (last << 16)), length)
