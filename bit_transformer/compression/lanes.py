"""What is remembered of the stretches of a block that are coded in lock-step.

A lane is one of these stretches. Lanes share all tables; each has its own place in the block, and
its own words, lines and records.
"""

from typing import NamedTuple

import numpy as np

from bit_transformer.native.functions import inlined

MAX_RECORD = 2048
HASHED = 1 << 16
"""Entries of a table by the hash of what came before."""


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
    """(L, contexts) hashes for the current byte."""
    buckets: np.ndarray
    """(L, contexts) first slot of each for the current half byte."""
    runs: np.ndarray
    """(L, contexts) where the run of each is in the table of buckets."""
    words: np.ndarray
    """(L, 4) hashes of the current word and the three before it."""
    word_length: np.ndarray
    gap: np.ndarray
    """Hash of the bytes between words that were last."""
    marks: np.ndarray
    """The last eight bytes that were in no word."""
    kinds: np.ndarray
    """Two bits for each of the last 32 bytes: in a word, space, end of a line, other."""
    lines: np.ndarray
    """(L, 2) where the current line begins, and where the one before it."""
    first_words: np.ndarray
    """(L, 2) hashes of the first word of each of these lines, 0 while there is none."""
    headings: np.ndarray
    """(L, 2) hashes of the current line so far, and of the last one that ended with a colon."""
    record_length: np.ndarray
    distances: np.ndarray
    """(L, 2048) how often the last two bytes had been seen so many bytes ago."""
    last_seen: np.ndarray
    """(L, 65536) position after each pair of bytes."""
    pair_followers: np.ndarray
    """(L, 65536) the last three bytes that came after each two bytes, by their hash."""
    word_followers: np.ndarray
    """(L, 65536) those that came after each beginning of a word and its last byte."""
    entry: np.ndarray
    """The present one of these."""
    match_at: np.ndarray
    """(L, 2) the byte that each match model expects next."""
    match_length: np.ndarray


def new_lanes(count: int, contexts: int) -> Lanes:
    """Lanes that have read nothing and have nothing to read; for so many contexts each."""

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
        last_seen=table(HASHED),
        pair_followers=table(HASHED),
        word_followers=table(HASHED),
        entry=numbers(),
        match_at=numbers(2),
        match_length=numbers(2),
    )


@inlined
def byte_at(history: np.ndarray, position: int) -> int:
    """A byte of the history, 0 before its beginning."""
    return np.int64(history[position]) if position >= 0 else 0
