"""What counts as bits: strict conversion of lists, numpy arrays and tensors to uint8 arrays."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from bit_transformer.errors import InvalidBitsError


@runtime_checkable
class SupportsArray(Protocol):
    """Anything numpy can view as an array: an ndarray, or a tensor on the CPU."""

    def __array__(self) -> Any: ...


BitsLike = Sequence[Any] | SupportsArray


def as_bits(bits: BitsLike) -> UInt8[np.ndarray, " n"]:
    """Bits of shape (n,) as uint8; may share memory with the argument, so never write into it.

    Raises InvalidBitsError unless `bits` is one-dimensional and every value equals 0 or 1.
    """
    return _as_uint8(bits, highest=1, what="bit")


def as_byte_values(values: BitsLike) -> UInt8[np.ndarray, " n"]:
    """Bytes of shape (n,) as uint8, from bytes or from whole numbers in 0..255.

    May share memory with the argument. Raises InvalidBitsError for anything else.
    """
    if isinstance(values, bytes | bytearray):
        return np.frombuffer(values, np.uint8)
    return _as_uint8(values, highest=255, what="byte")


def _as_uint8(values: BitsLike, *, highest: int, what: str) -> UInt8[np.ndarray, " n"]:
    array = _as_vector(values, what)
    if array.dtype == bool:
        return array.astype(np.uint8)
    good = (array >= 0) & (array <= highest) & (array == np.floor(array))
    if not good.all():
        index = int(good.argmin())
        allowed = "0 or 1" if highest == 1 else f"a whole number in 0..{highest}"
        raise InvalidBitsError(f"{what} {index} is {array[index]}, but must be {allowed}")
    return array.astype(np.uint8, copy=False)


def _as_vector(values: BitsLike, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidBitsError(f"{what}s must form one flat sequence: {error}") from error
    if array.ndim != 1:
        raise InvalidBitsError(
            f"{what}s must have one axis, got shape {array.shape}; convert one row at a time"
        )
    if array.dtype.kind not in "biuf":
        raise InvalidBitsError(f"{what}s must be numbers, got an array of {array.dtype}")
    return array
