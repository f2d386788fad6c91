"""Bytes and text to bits and back, and bits packed eight to a byte.

The most significant bit of a byte comes first. A parity bit, where there is one, comes last.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from bit_transformer.bits.array import BitsLike, as_bits, as_byte_values
from bit_transformer.bits.parity import GROUP, as_groups, check_parity, parity_of_bytes
from bit_transformer.errors import DecodeError, InvalidBitsError, UsageError, kind_of

BITS_PER_BYTE = 8


def bits_per_symbol(parity: bool) -> Literal[8, 9]:
    """Return the number of bits that encode one byte: 8, or 9 with parity."""
    return 9 if parity else 8


def unpack_bytes(
    values: UInt8[np.ndarray, "*s n"], *, parity: bool = False
) -> UInt8[np.ndarray, "*s bits"]:
    """Convert bytes of shape (..., n) to bits of shape (..., n * 8); with parity, (..., n * 9)."""
    bits = np.unpackbits(values, axis=-1)
    if not parity:
        return bits
    data = bits.reshape(*values.shape, BITS_PER_BYTE)
    groups = np.concatenate([data, parity_of_bytes(values)[..., None]], axis=-1)
    return groups.reshape(*values.shape[:-1], values.shape[-1] * GROUP)


def bytes_to_bits(
    data: bytes | bytearray | memoryview | npt.NDArray[Any], *, parity: bool = False
) -> UInt8[np.ndarray, " bits"]:
    """Convert n bytes to n * 8 bits, or n * 9 with an even parity bit after each byte.

    Raises InvalidBitsError for an array that is not one-dimensional uint8.
    """
    return unpack_bytes(as_bytes(data), parity=parity)


def bits_to_bytes(bits: BitsLike, *, parity: bool = False) -> bytes:
    """Convert the bits of `bytes_to_bits` back to bytes; parity bits are checked and dropped.

    Raises InvalidBitsError for a value other than 0 and 1 or a length not a multiple of 8 (9 with
    parity), and ParityError with the index of the first byte whose parity bit is wrong.
    """
    if parity:
        check_parity(bits)
        return np.packbits(as_groups(bits)[:, :BITS_PER_BYTE]).tobytes()
    flat = as_bits(bits)
    if flat.size % BITS_PER_BYTE:
        raise InvalidBitsError(
            f"whole bytes need a multiple of {BITS_PER_BYTE} bits, got {flat.size}; "
            f"drop the last {flat.size % BITS_PER_BYTE} or use pack_bits"
        )
    return np.packbits(flat).tobytes()


def pack_bits(bits: BitsLike) -> UInt8[np.ndarray, " packed"]:
    """Pack n bits into ceil(n / 8) bytes; the last byte is padded with zeros.

    Raises InvalidBitsError for values other than 0 and 1.
    """
    return np.packbits(as_bits(bits))


def unpack_bits(packed: BitsLike, n_bits: int | None = None) -> UInt8[np.ndarray, " n"]:
    """Return the first `n_bits` bits of packed bytes, or every bit, padding included.

    Raises InvalidBitsError unless `packed` consists of bytes and holds at least `n_bits` bits.
    """
    values = as_byte_values(packed)
    available = values.size * BITS_PER_BYTE
    if n_bits is not None and not 0 <= n_bits <= available:
        raise InvalidBitsError(
            f"n_bits must lie in 0..{available} for {values.size} bytes, got {n_bits}"
        )
    return np.unpackbits(values, count=n_bits)


def text_to_bits(text: str, *, parity: bool = True) -> list[int]:
    """Return the bits of the text's UTF-8 bytes: nine per byte, or eight with parity=False.

    Raises UsageError for a lone surrogate, which has no UTF-8 form, and for a value that is not a
    string.
    """
    if not isinstance(text, str):
        raise UsageError(f"text must be a string, got {kind_of(text)}; use bytes_to_bits for bytes")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"character {error.start} ({text[error.start]!a}) is a lone surrogate without a UTF-8 "
            "form; remove it or encode the bytes yourself with bytes_to_bits"
        ) from error
    return bytes_to_bits(data, parity=parity).tolist()


def bits_to_text(bits: BitsLike, *, parity: bool = True) -> str:
    """Decode bits as UTF-8 text. Decoding is strict: nothing is replaced or dropped.

    Raises the errors of `bits_to_bytes`, and DecodeError with the index of the first byte that is
    not valid UTF-8.
    """
    data = bits_to_bytes(bits, parity=parity)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(
            f"byte {error.start} (0x{data[error.start]:02x}) is not valid UTF-8: {error.reason}; "
            "use bits_to_bytes for data that is not text",
            error.start,
        ) from error


def as_bytes(data: bytes | bytearray | memoryview | npt.NDArray[Any]) -> UInt8[np.ndarray, " n"]:
    """Return n bytes as a uint8 array; raises InvalidBitsError unless `data` is flat bytes."""
    if isinstance(data, memoryview):
        # A view may be strided or have items of several bytes; tobytes() gives its bytes in order.
        return np.frombuffer(data.tobytes(), np.uint8)
    if isinstance(data, bytes | bytearray):
        return np.frombuffer(data, np.uint8)
    if not isinstance(data, np.ndarray):
        raise InvalidBitsError(
            f"data must be bytes or a uint8 array, got {kind_of(data)}; encode text with "
            "text.encode(), read a file with Path(name).read_bytes(), or convert bits with "
            "bits_to_bytes"
        )
    if data.dtype != np.uint8 or data.ndim != 1:
        raise InvalidBitsError(
            f"bytes must be a one-dimensional uint8 array, got {data.dtype} of shape {data.shape}"
        )
    return data


def patch_text(value: int, patch_size: int, *, quoted: bool = False) -> str:
    """Return the value of a patch as text for people to read.

    A patch of 8 or 9 bits is a byte; the ninth bit is its parity. Printable ASCII, tab, line feed
    and carriage return are characters, in Python quotes if `quoted`. Other bytes are hexadecimal,
    such as x00. Patches of other sizes are decimal numbers.
    """
    if patch_size not in (8, 9):
        return str(value)
    character = chr(value >> 1 if patch_size == 9 else value)
    if not (" " <= character <= "~" or character in "\t\n\r"):
        return f"x{ord(character):02x}"
    return repr(character) if quoted else character
