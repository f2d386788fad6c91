"""The even parity bit: a ninth bit after each byte makes the number of ones in a group even."""

from typing import overload

import numpy as np
from jaxtyping import UInt8

from bit_transformer.bits.array import BitsLike, as_bits
from bit_transformer.errors import InvalidBitsError, ParityError

GROUP = 9
"""Bits in a group: eight data bits and their parity bit."""

# A table with the parity of each byte value, so that the data loader pays one lookup per byte.
_PARITY_OF_BYTE = np.bitwise_xor.reduce(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1), axis=1
)


def parity_of_bytes(values: UInt8[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
    """Return the parity bit of each byte, for an array of any shape."""
    return _PARITY_OF_BYTE[values]


def check_parity(bits: BitsLike) -> None:
    """Raise ParityError, with the index of the first bad byte, unless every group is even.

    Raises InvalidBitsError for a value other than 0 and 1 or a length not a multiple of nine.
    """
    wrong = _odd_groups(as_groups(bits))
    if wrong.any():
        index = int(wrong.argmax())
        raise ParityError(
            f"byte {index} (bits {index * GROUP}..{index * GROUP + GROUP - 1}) has a wrong parity "
            "bit; repair it with enforce_parity",
            index,
        )


@overload
def enforce_parity(bits: list[int]) -> tuple[list[int], int]: ...


@overload
def enforce_parity(bits: BitsLike) -> tuple[UInt8[np.ndarray, " n"], int]: ...


def enforce_parity(bits: BitsLike) -> tuple[list[int] | UInt8[np.ndarray, " n"], int]:
    """Set the parity bit of each group of nine; the eight data bits do not change.

    Returns the bits and the number of parity bits that changed. A list gives a list, anything else
    a new uint8 array. Raises InvalidBitsError for a value other than 0 and 1 or a length not a
    multiple of nine.
    """
    groups = as_groups(bits).copy()
    wrong = _odd_groups(groups)
    groups[:, -1] ^= wrong.astype(np.uint8)
    fixed = groups.ravel()
    return (fixed.tolist() if isinstance(bits, list) else fixed), int(wrong.sum())


def as_groups(bits: BitsLike) -> UInt8[np.ndarray, "n 9"]:
    """Return bits in rows of nine; raises InvalidBitsError when the last row is incomplete."""
    flat = as_bits(bits)
    if flat.size % GROUP:
        raise InvalidBitsError(
            f"bits with parity come in groups of {GROUP}, got {flat.size}; "
            f"drop the last {flat.size % GROUP} or decode with parity=False"
        )
    return flat.reshape(-1, GROUP)


def _odd_groups(groups: UInt8[np.ndarray, "n 9"]) -> np.ndarray:
    return np.bitwise_xor.reduce(groups, axis=1).astype(bool)
