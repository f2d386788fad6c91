"""Strict conversion of lists, numpy arrays and tensors to uint8 arrays of bits or bytes."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from bit_transformer.errors import InvalidBitsError


@runtime_checkable
class SupportsArray(Protocol):
    """An object that numpy can view as an array, such as an ndarray or a tensor on the CPU."""

    def __array__(self) -> Any: ...


BitsLike = Sequence[Any] | SupportsArray


def as_bits(bits: BitsLike) -> UInt8[np.ndarray, " n"]:
    """Return n bits as a uint8 array of shape (n,).

    The result may share memory with the argument, so callers must not write into it. Raises
    InvalidBitsError unless `bits` has one axis and every value equals 0 or 1.
    """
    return _as_uint8(bits, highest=1, unit="bit")


def as_byte_values(values: BitsLike) -> UInt8[np.ndarray, " n"]:
    """Return n bytes, or n whole numbers in 0..255, as a uint8 array of shape (n,).

    The result may share memory with the argument. Raises InvalidBitsError for anything else.
    """
    if isinstance(values, bytes | bytearray):
        return np.frombuffer(values, np.uint8)
    return _as_uint8(values, highest=255, unit="byte")


def _as_uint8(values: BitsLike, *, highest: int, unit: str) -> UInt8[np.ndarray, " n"]:
    array = _as_vector(values, unit)
    if array.dtype == bool:
        return array.astype(np.uint8)
    valid = (array >= 0) & (array <= highest) & (array == np.floor(array))
    if not valid.all():
        index = int(valid.argmin())
        allowed = "0 or 1" if highest == 1 else f"a whole number in 0..{highest}"
        raise InvalidBitsError(f"{unit} {index} is {array[index]}, but must be {allowed}")
    return array.astype(np.uint8, copy=False)


def _as_vector(values: BitsLike, unit: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidBitsError(f"{unit}s must form one flat sequence: {error}") from error
    if array.ndim != 1:
        raise InvalidBitsError(
            f"{unit}s must have one axis, got shape {array.shape}; convert one row at a time"
        )
    if array.dtype.kind not in "biuf":
        raise InvalidBitsError(f"{unit}s must be numbers, got an array of {array.dtype}")
    return array
