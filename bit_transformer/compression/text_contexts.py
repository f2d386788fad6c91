"""Contexts of text: words, gaps between them, lines, and what is written of whom."""

import numpy as np

from bit_transformer.compression.fixed_point import hashed
from bit_transformer.compression.lanes import HASHED, Lanes, byte_at
from bit_transformer.native.functions import inlined

_END_OF_LINE, _SPACE, _COLON = 10, 32, 58
_IN_WORD, _IS_SPACE, _ENDS_LINE, _OTHER = 0, 1, 2, 3
_FOLLOWERS = 0xFFFFFF
_NEAR_BITS = 10
"""What was near is what was in the same 1024 bytes."""


@inlined
def _letter(byte: int) -> int:
    """Small, where it is a capital."""
    return byte + 32 if 65 <= byte <= 90 else byte


@inlined
def _in_word(letter: int) -> bool:
    return 97 <= letter <= 122 or letter >= 128


@inlined
def note_text(lanes: Lanes, lane: int, history: np.ndarray) -> None:
    """Take notice of the byte before the lane's position."""
    position = lanes.position[lane]
    last, before = byte_at(history, position - 1), byte_at(history, position - 2)
    _note_followers(lanes, lane, last, before, byte_at(history, position - 3))
    if last == _END_OF_LINE:
        _note_line(lanes, lane, position, before)
    else:
        lanes.headings[lane, 0] = hashed(lanes.headings[lane, 0], last)
    _note_word(lanes, lane, last, before)
    words, token = lanes.words, np.uint64(HASHED - 1)
    lanes.entry[lane] = np.int64((words[lane, 0] + np.uint64(last)) & token)


@inlined
def _note_followers(lanes: Lanes, lane: int, last: int, before: int, third: int) -> None:
    pair, word = lanes.pair_followers, lanes.word_followers
    entry = _pair_entry(before, third)
    pair[lane, entry] = ((pair[lane, entry] << 8) | last) & _FOLLOWERS
    entry = lanes.entry[lane]
    word[lane, entry] = ((word[lane, entry] << 8) | last) & _FOLLOWERS


@inlined
def _pair_entry(last: int, before: int) -> int:
    return np.int64(hashed(np.uint64(77), (before << 8) | last) & np.uint64(HASHED - 1))


@inlined
def _note_line(lanes: Lanes, lane: int, position: int, before: int) -> None:
    if before == _COLON:
        lanes.headings[lane, 1] = lanes.headings[lane, 0]
    lanes.headings[lane, 0] = np.uint64(0)
    lanes.lines[lane, 1], lanes.lines[lane, 0] = lanes.lines[lane, 0], position
    first_words = lanes.first_words[lane]
    first_words[1], first_words[0] = first_words[0], np.uint64(0)


@inlined
def _note_word(lanes: Lanes, lane: int, last: int, before: int) -> None:
    words, letter = lanes.words[lane], _letter(last)
    if _in_word(letter):
        words[0] = hashed(words[0] + np.uint64(1), letter)
        lanes.word_length[lane] += 1
        lanes.kinds[lane] = (lanes.kinds[lane] << np.uint64(2)) | np.uint64(_IN_WORD)
        return
    lanes.word_length[lane] = 0
    kind = _IS_SPACE if last == _SPACE else (_ENDS_LINE if last == _END_OF_LINE else _OTHER)
    lanes.kinds[lane] = (lanes.kinds[lane] << np.uint64(2)) | np.uint64(kind)
    lanes.marks[lane] = (lanes.marks[lane] << np.uint64(8)) | np.uint64(last)
    begun = hashed(lanes.gap[lane], last)
    lanes.gap[lane] = np.uint64(last) if _in_word(_letter(before)) else begun
    if words[0] == 0:
        return
    words[3], words[2], words[1], words[0] = words[2], words[1], words[0], np.uint64(0)
    if lanes.first_words[lane, 0] == 0:
        lanes.first_words[lane, 0] = words[1]


@inlined
def text_contexts(out: np.ndarray, lanes: Lanes, lane: int, four: int, column: int) -> None:
    """What pays most, beside the last bytes; `four` are the last four, `column` is where in its
    line the byte is."""
    word, first, second = lanes.words[lane, 0], lanes.words[lane, 1], lanes.words[lane, 2]
    last, kinds, length = four & 0xFF, lanes.kinds[lane], lanes.word_length[lane]
    marks = np.int64(lanes.marks[lane] & np.uint64(0xFFFFFF))
    after_word = lanes.word_followers[lane, lanes.entry[lane]] & 0xFFFF
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
def more_text_contexts(
    out: np.ndarray, lanes: Lanes, lane: int, four: int, column: int, seven: np.uint64
) -> None:
    """What pays where time hardly matters; `seven` is the hash of the last seven bytes."""
    word, first, second = lanes.words[lane, 0], lanes.words[lane, 1], lanes.words[lane, 2]
    third, last, kinds = np.int64(lanes.words[lane, 3]), four & 0xFF, lanes.kinds[lane]
    kinds_of_six = np.int64(kinds & np.uint64(0xFFF))
    two_words = hashed(word + np.uint64(30), np.int64(first))
    after_word = lanes.word_followers[lane, lanes.entry[lane]] & 0xFF
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
