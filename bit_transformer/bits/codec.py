"""Bytes and text to bits and back: most significant bit first, an optional even parity bit last."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import UInt8

from bit_transformer.bits.array import BitsLike, as_bits
from bit_transformer.bits.parity import as_groups, check_parity, parity_of_bytes
from bit_transformer.errors import DecodeError, InvalidBitsError, UsageError, kind_of

BITS_PER_BYTE = 8


def bits_per_symbol(parity: bool) -> Literal[8, 9]:
    """Bits one byte takes: 8, or 9 with its parity bit."""
    return 9 if parity else 8


def unpack_bytes(
    values: UInt8[np.ndarray, "*s n"], *, parity: bool = False
) -> UInt8[np.ndarray, "*s bits"]:
    """Bytes of shape (..., n) to bits of shape (..., n * 8), or (..., n * 9) with parity."""
    bits = np.unpackbits(values, axis=-1)
    if not parity:
        return bits
    data = bits.reshape(*values.shape, BITS_PER_BYTE)
    groups = np.concatenate([data, parity_of_bytes(values)[..., None]], axis=-1)
    return groups.reshape(*values.shape[:-1], values.shape[-1] * 9)


def bytes_to_bits(
    data: bytes | bytearray | memoryview | npt.NDArray[Any], *, parity: bool = False
) -> UInt8[np.ndarray, " bits"]:
    """The bits of n bytes, shape (n * 8,), or (n * 9,) with an even parity bit after each byte.

    Raises InvalidBitsError for an array that is not one-dimensional uint8.
    """
    return unpack_bytes(as_bytes(data), parity=parity)


def bits_to_bytes(bits: BitsLike, *, parity: bool = False) -> bytes:
    """The bytes that `bytes_to_bits` made these bits of; parity bits are checked, then dropped.

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


def text_to_bits(text: str, *, parity: bool = True) -> list[int]:
    """The bits of the UTF-8 form of `text`: nine a byte, even parity last; eight with parity=False.

    Raises UsageError for a lone surrogate, which has no UTF-8 form, and for what is no text.
    """
    if not isinstance(text, str):
        raise UsageError(f"text is needed, got {kind_of(text)}; use bytes_to_bits for bytes")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"character {error.start} ({text[error.start]!a}) is a lone surrogate without a UTF-8 "
            "form; remove it or encode the bytes yourself with bytes_to_bits"
        ) from error
    return bytes_to_bits(data, parity=parity).tolist()


def bits_to_text(bits: BitsLike, *, parity: bool = True) -> str:
    """The text whose UTF-8 bits these are; strict, nothing is replaced or dropped.

    Raises as `bits_to_bytes`, and DecodeError with the index of the first byte that is not UTF-8.
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
    """The values of n bytes; InvalidBitsError for what is no bytes and no flat uint8 array."""
    if isinstance(data, memoryview):
        # It may be strided or of wide items; its bytes are what is meant.
        return np.frombuffer(data.tobytes(), np.uint8)
    if isinstance(data, bytes | bytearray):
        return np.frombuffer(data, np.uint8)
    if not isinstance(data, np.ndarray):
        raise InvalidBitsError(
            f"bytes or a uint8 array are needed, got {kind_of(data)}; encode text with "
            "text.encode(), read a file with Path(name).read_bytes(), and turn bits into bytes "
            "with bits_to_bytes"
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
