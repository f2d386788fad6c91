"""A binary arithmetic coder: bits and their probabilities to bytes and back.

It is independent of any model. It narrows an interval of integers, in proportion to the probability
of each bit, and moves a leading byte out once both ends of the interval agree on it, as PAQ's coder
does (the range coder is G. N. N. Martin's, 1979). So no carry is possible. The price is that an
interval across a byte boundary can shrink; PAQ has 32 bits, and 48 make that loss negligible.
The state is an array of integers, so that compiled code can hold it.
"""

import numpy as np
from jaxtyping import Int64, UInt8

from bit_transformer.native.functions import inlined

_BITS = 48
_TOP = (1 << _BITS) - 1
_BYTE = _BITS - 8
LOW, HIGH, CODE, POSITION = range(4)
"""Places in the state: the ends of the interval, the 48 bits being decoded, and the position in the
buffer. The position counts on when the buffer is full, so that the full length is known."""


def new_coder() -> Int64[np.ndarray, "4"]:
    """Return the state before the first bit is encoded."""
    return np.array([0, _TOP, 0, 0], np.int64)


def new_decoder(buffer: UInt8[np.ndarray, " n"]) -> Int64[np.ndarray, "4"]:
    """Return the state before the first bit is decoded. Bytes past the buffer's end are zeros."""
    first = bytes(buffer[: _BITS // 8]).ljust(_BITS // 8, b"\0")
    return np.array([0, _TOP, int.from_bytes(first, "big"), _BITS // 8], np.int64)


@inlined
def _split(coder: np.ndarray, probability: int) -> int:
    """Return the last number of the interval's lower part, which stands for a one."""
    span = coder[HIGH] - coder[LOW]
    return coder[LOW] + (span >> 16) * probability + (((span & 0xFFFF) * probability) >> 16)


@inlined
def _narrow(coder: np.ndarray, split: int, bit: int) -> None:
    if bit:
        coder[HIGH] = split
    else:
        coder[LOW] = split + 1


@inlined
def _agrees(coder: np.ndarray) -> bool:
    """Return whether both ends of the interval begin with the same byte."""
    return (coder[LOW] ^ coder[HIGH]) >> _BYTE == 0


@inlined
def _shift(coder: np.ndarray) -> None:
    """Remove the leading byte of the interval's ends."""
    coder[POSITION] += 1
    coder[LOW] = (coder[LOW] << 8) & _TOP
    coder[HIGH] = ((coder[HIGH] << 8) & _TOP) | 255


@inlined
def encode_bit(coder: np.ndarray, buffer: np.ndarray, probability: int, bit: int) -> None:
    """Encode a bit. `probability` of a one is in 1..65535, of 65536."""
    _narrow(coder, _split(coder, probability), bit)
    while _agrees(coder):
        if coder[POSITION] < buffer.size:
            buffer[coder[POSITION]] = coder[HIGH] >> _BYTE
        _shift(coder)


@inlined
def decode_bit(coder: np.ndarray, buffer: np.ndarray, probability: int) -> int:
    """Decode a bit that was encoded with this probability of a one."""
    split = _split(coder, probability)
    bit = 1 if coder[CODE] <= split else 0
    _narrow(coder, split, bit)
    while _agrees(coder):
        read = np.int64(buffer[coder[POSITION]]) if coder[POSITION] < buffer.size else 0
        _shift(coder)
        coder[CODE] = ((coder[CODE] << 8) & _TOP) | read
    return bit


def finish(coder: Int64[np.ndarray, "4"], buffer: UInt8[np.ndarray, " n"]) -> int:
    """Write as few final bytes as possible, and return the length of the code in bytes. If that is
    more than the buffer holds, the buffer's content is useless."""
    low, high, position = int(coder[LOW]), int(coder[HIGH]), int(coder[POSITION])
    free = next(k for k in range(_BITS, -1, -8) if (high >> k << k) >= low)
    tail = (high >> free << free).to_bytes(_BITS // 8, "big")[: (_BITS - free) // 8]
    room = max(0, len(buffer) - position)
    kept = tail[:room]
    buffer[position : position + len(kept)] = np.frombuffer(kept, np.uint8)
    return position + len(tail)
