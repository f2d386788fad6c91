"""The state of each lane.

A lane is a stretch of a block. The lanes of a block are coded in lock-step and share all tables.
Each has its own position, and its own words, lines and records.
"""

from typing import NamedTuple

import numpy as np

from bit_transformer.native.functions import inlined

MAX_RECORD = 2048
HASH_ENTRIES = 1 << 16
"""Entries of a table that is indexed by a hash of the last bytes."""


class Lanes(NamedTuple):
    """The state of L lanes; every array has L rows."""

    position: np.ndarray  # position of the next byte in the history
    end: np.ndarray  # position after the last byte
    node: np.ndarray  # node in the bit tree of a byte: a leading one, then the known bits
    bit_index: np.ndarray  # number of known bits of the current byte
    contexts: np.ndarray  # (L, contexts) hash of each context of the current byte
    buckets: np.ndarray  # (L, contexts) first slot of each bucket for the current half byte
    runs: np.ndarray  # (L, contexts) place of each context's run in the table of buckets
    words: np.ndarray  # (L, 4) hashes of the current word and of the three before it
    word_length: np.ndarray  # letters of the current word
    gap: np.ndarray  # hash of the bytes between the last two words
    marks: np.ndarray  # the last eight bytes outside words
    kinds: (
        np.ndarray
    )  # kind of each of the last 32 bytes, 2 bits: in a word, space, end of line, other
    lines: np.ndarray  # (L, 2) where the current line begins, and where the line before it begins
    first_words: np.ndarray  # (L, 2) hash of each line's first word, 0 until it is complete
    headings: np.ndarray  # (L, 2) hashes of the current line, and of the last that ended in a colon
    record_length: np.ndarray  # the distance at which pairs of bytes most often repeat
    distances: np.ndarray  # (L, 2048) how often a pair of bytes repeated at each distance
    last_seen: np.ndarray  # (L, 65536) position after the last occurrence of each pair of bytes
    pair_followers: np.ndarray  # (L, 65536) last three bytes after a pair of bytes, by its hash
    word_followers: np.ndarray  # (L, 65536) last three bytes after a word's beginning, by its hash
    word_entry: np.ndarray  # the present entry of `word_followers`
    match_at: np.ndarray  # (L, 2) position of the byte that each match model expects next
    match_length: np.ndarray  # (L, 2) 0 without a match


def new_lanes(count: int, contexts: int) -> Lanes:
    """Return lanes of length 0 that have read nothing, with room for this many contexts each."""

    def numbers(*shape: int) -> np.ndarray:
        return np.zeros((count, *shape), np.int64)

    def hashes(*shape: int) -> np.ndarray:
        return np.zeros((count, *shape), np.uint64)

    def table(size: int) -> np.ndarray:
        return np.zeros((count, size), np.int32)

    return Lanes(
        position=numbers(),
        end=numbers(),
        node=np.ones(count, np.int64),
        bit_index=numbers(),
        contexts=hashes(contexts),
        buckets=numbers(contexts),
        runs=numbers(contexts),
        words=hashes(4),
        word_length=numbers(),
        gap=hashes(),
        marks=hashes(),
        kinds=hashes(),
        lines=numbers(2),
        first_words=hashes(2),
        headings=hashes(2),
        record_length=numbers(),
        distances=table(MAX_RECORD),
        last_seen=table(HASH_ENTRIES),
        pair_followers=table(HASH_ENTRIES),
        word_followers=table(HASH_ENTRIES),
        word_entry=numbers(),
        match_at=numbers(2),
        match_length=numbers(2),
    )


@inlined
def byte_at(history: np.ndarray, position: int) -> int:
    """Return a byte of the history, or 0 before its beginning."""
    return np.int64(history[position]) if position >= 0 else 0
