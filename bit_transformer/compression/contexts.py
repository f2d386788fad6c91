"""The contexts that a byte is predicted from, as hashes.

Text is predicted from its last bytes, words, the gaps between words, lines and headings; binary
data from its last bytes and from columns of records. The kinds of context are those of paq8's word,
sparse and record models (Mahoney). Those of text were chosen greedily: the one that made sample
files smallest was added, then the next (docs/log.md, 2026-11-25).
The constant that begins each hash keeps the contexts apart in the table that they share.
"""

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.fixed_point import hashed
from bit_transformer.compression.lanes import HASH_ENTRIES, MAX_RECORD, Lanes, byte_at
from bit_transformer.native.functions import inlined

TEXT, BINARY, RICH_TEXT = 0, 1, 2
"""Profiles."""
CONTEXTS = (16, 16, 30)
"""Number of hashed contexts of each profile. The first five are the last 1, 2, 3, 4 and 6 bytes."""
ORDERS = 5
_SAMPLE_BYTES = 4096
_PRINTABLE_PERCENT = 90
_FORGET_EVERY = 1024
_END_OF_LINE, _SPACE, _COLON = 10, 32, 58
_IN_WORD, _IS_SPACE, _ENDS_LINE, _OTHER = 0, 1, 2, 3
_FOLLOWERS = 0xFFFFFF
_NEAR_BITS = 10
"""A context of nearby text changes every 1024 bytes."""


def profile_of(data: UInt8[np.ndarray, " n"]) -> int:
    """Return TEXT if nearly all of the first 4096 bytes are printable ASCII, else BINARY."""
    sample = data[:_SAMPLE_BYTES]
    printable = ((sample >= 32) & (sample < 128)) | (sample == 9) | (sample == 10) | (sample == 13)
    return TEXT if 100 * int(printable.sum()) >= _PRINTABLE_PERCENT * len(sample) else BINARY


@inlined
def make_contexts(lanes: Lanes, lane: int, history: np.ndarray, profile: int) -> None:
    """Compute the context hashes of the byte at the lane's position."""
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
    _text_contexts(out, lanes, lane, four, column)
    if profile == RICH_TEXT:
        seven = five | (six << 8) | (byte_at(history, position - 7) << 16)
        _more_text_contexts(
            out, lanes, lane, four, column, hashed(hashed(np.uint64(7), four), seven)
        )


@inlined
def _binary_contexts(
    out: np.ndarray, lanes: Lanes, lane: int, four: int, column: int, history: np.ndarray
) -> None:
    """Sparse contexts, which skip bytes, and records: the bytes above in a table of fixed width."""
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


@inlined
def _text_contexts(out: np.ndarray, lanes: Lanes, lane: int, four: int, column: int) -> None:
    """The text contexts that gain most. `four` holds the last four bytes; `column` is the place in
    the line."""
    word, first, second = lanes.words[lane, 0], lanes.words[lane, 1], lanes.words[lane, 2]
    last, kinds, length = four & 0xFF, lanes.kinds[lane], lanes.word_length[lane]
    marks = np.int64(lanes.marks[lane] & np.uint64(0xFFFFFF))
    after_word = lanes.word_followers[lane, lanes.word_entry[lane]] & 0xFFFF
    out[5] = hashed(word + np.uint64(9), last)
    out[6] = hashed(word + np.uint64(10), np.int64(first))
    out[7] = hashed(word + np.uint64(11), np.int64(second))
    out[8] = hashed(np.uint64(12), last | (column << 8))
    out[9] = hashed(hashed(np.uint64(13), np.int64(kinds & np.uint64(0xFFFF))), last)
    out[10] = hashed(hashed(np.uint64(14), marks), length)
    out[11] = hashed(word + np.uint64(15), np.int64(lanes.gap[lane]))
    out[12] = hashed(hashed(np.uint64(16), after_word), last)
    out[13] = hashed(word + np.uint64(17), np.int64(lanes.headings[lane, 1]))
    out[14] = hashed(word + np.uint64(18), lanes.position[lane] >> _NEAR_BITS)
    out[15] = hashed(hashed(np.uint64(19), np.int64(kinds & np.uint64(0xFFF))), four & 0xFFFF)


@inlined
def _more_text_contexts(
    out: np.ndarray, lanes: Lanes, lane: int, four: int, column: int, seven: np.uint64
) -> None:
    """Contexts that gain less, for when time hardly matters; `seven` hashes the last seven
    bytes."""
    word, first, second = lanes.words[lane, 0], lanes.words[lane, 1], lanes.words[lane, 2]
    third, last, kinds = np.int64(lanes.words[lane, 3]), four & 0xFF, lanes.kinds[lane]
    kinds_of_six = np.int64(kinds & np.uint64(0xFFF))
    two_words = hashed(word + np.uint64(30), np.int64(first))
    after_word = lanes.word_followers[lane, lanes.word_entry[lane]] & 0xFF
    after_pair = lanes.pair_followers[lane, _pair_entry(last, (four >> 8) & 0xFF)] & 0xFFFF
    out[16] = seven
    out[17] = hashed(np.uint64(31), four & 0xF0F0F0F0)
    out[18] = hashed(hashed(np.uint64(32), np.int64(lanes.first_words[lane, 0])), last)
    out[19] = hashed(word + np.uint64(33), column)
    out[20] = hashed(np.uint64(34), np.int64(kinds & np.uint64(0xFFFFFF)))
    out[21] = hashed(hashed(np.uint64(35), np.int64(first)), last)
    out[22] = hashed(hashed(np.uint64(36), after_word), four & 0xFFFF)
    out[23] = hashed(two_words, np.int64(second))
    out[24] = hashed(two_words, third)
    out[25] = hashed(hashed(np.uint64(37), kinds_of_six), four & 0xFFFF00)
    out[26] = hashed(hashed(np.uint64(38), after_pair), last)
    out[27] = hashed(hashed(word + np.uint64(39), np.int64(second)), third)
    out[28] = hashed(hashed(np.uint64(40), np.int64(lanes.headings[lane, 1])), four & 0xFFFF)
    out[29] = hashed(word + np.uint64(41), np.int64(lanes.first_words[lane, 1]))


@inlined
def note_byte(lanes: Lanes, lane: int, history: np.ndarray) -> None:
    """Update what the lane knows of words, lines and records with the byte before its position."""
    position = lanes.position[lane]
    last, before = byte_at(history, position - 1), byte_at(history, position - 2)
    _note_text(lanes, lane, history)
    _note_record(lanes, lane, position, (before << 8) | last)


# Tables of numbers repeat with the width of a row, as spreadsheets and images do. Pairs of bytes
# are compared because single bytes repeat by chance too often (paq8's record model does the same).
@inlined
def _note_record(lanes: Lanes, lane: int, position: int, pair: int) -> None:
    """Take the distance at which pairs of bytes most often repeat for the length of a record."""
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
def _note_text(lanes: Lanes, lane: int, history: np.ndarray) -> None:
    position = lanes.position[lane]
    last, before = byte_at(history, position - 1), byte_at(history, position - 2)
    _note_followers(lanes, lane, last, before, byte_at(history, position - 3))
    if last == _END_OF_LINE:
        _note_line(lanes, lane, position, before)
    else:
        lanes.headings[lane, 0] = hashed(lanes.headings[lane, 0], last)
    _note_word(lanes, lane, last, before)
    words, mask = lanes.words, np.uint64(HASH_ENTRIES - 1)
    lanes.word_entry[lane] = np.int64((words[lane, 0] + np.uint64(last)) & mask)


# An indirect context, as in paq8: the bytes that followed the last bytes before are themselves a
# context. It generalises from one passage to others that went on alike.
@inlined
def _note_followers(lanes: Lanes, lane: int, last: int, before: int, third: int) -> None:
    pair, word = lanes.pair_followers, lanes.word_followers
    entry = _pair_entry(before, third)
    pair[lane, entry] = ((pair[lane, entry] << 8) | last) & _FOLLOWERS
    entry = lanes.word_entry[lane]
    word[lane, entry] = ((word[lane, entry] << 8) | last) & _FOLLOWERS


@inlined
def _pair_entry(last: int, before: int) -> int:
    return np.int64(hashed(np.uint64(77), (before << 8) | last) & np.uint64(HASH_ENTRIES - 1))


@inlined
def _note_line(lanes: Lanes, lane: int, position: int, before: int) -> None:
    # A line that ends with a colon names what follows, such as the speaker in a play.
    if before == _COLON:
        lanes.headings[lane, 1] = lanes.headings[lane, 0]
    lanes.headings[lane, 0] = np.uint64(0)
    lanes.lines[lane, 1], lanes.lines[lane, 0] = lanes.lines[lane, 0], position
    first_words = lanes.first_words[lane]
    first_words[1], first_words[0] = first_words[0], np.uint64(0)


@inlined
def _note_word(lanes: Lanes, lane: int, last: int, before: int) -> None:
    words, letter = lanes.words[lane], _lower_case(last)
    if _in_word(letter):
        words[0] = hashed(words[0] + np.uint64(1), letter)
        lanes.word_length[lane] += 1
        lanes.kinds[lane] = (lanes.kinds[lane] << np.uint64(2)) | np.uint64(_IN_WORD)
        return
    lanes.word_length[lane] = 0
    kind = _IS_SPACE if last == _SPACE else (_ENDS_LINE if last == _END_OF_LINE else _OTHER)
    lanes.kinds[lane] = (lanes.kinds[lane] << np.uint64(2)) | np.uint64(kind)
    lanes.marks[lane] = (lanes.marks[lane] << np.uint64(8)) | np.uint64(last)
    longer = hashed(lanes.gap[lane], last)
    lanes.gap[lane] = np.uint64(last) if _in_word(_lower_case(before)) else longer
    if words[0] == 0:
        return
    words[3], words[2], words[1], words[0] = words[2], words[1], words[0], np.uint64(0)
    if lanes.first_words[lane, 0] == 0:
        lanes.first_words[lane, 0] = words[1]


@inlined
def _lower_case(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


# Bytes from 128 on count as letters: in UTF-8 they are parts of letters outside ASCII.
@inlined
def _in_word(letter: int) -> bool:
    return 97 <= letter <= 122 or letter >= 128
