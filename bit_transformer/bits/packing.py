"""Eight bits to a uint8 and back, for any number of bits; the last byte is padded with zeros."""

import numpy as np
from jaxtyping import UInt8

from bit_transformer.bits.array import BitsLike, as_bits, as_byte_values
from bit_transformer.errors import InvalidBitsError


def pack_bits(bits: BitsLike) -> UInt8[np.ndarray, " packed"]:
    """n bits in ceil(n / 8) uint8, the first bit most significant.

    Raises InvalidBitsError for values other than 0 and 1.
    """
    return np.packbits(as_bits(bits))


def unpack_bits(packed: BitsLike, n_bits: int | None = None) -> UInt8[np.ndarray, " n"]:
    """The first `n_bits` bits of packed bytes; without a count every bit, padding included.

    Raises InvalidBitsError when `packed` is not made of bytes or holds fewer than `n_bits` bits.
    """
    values = as_byte_values(packed)
    held = values.size * 8
    if n_bits is not None and not 0 <= n_bits <= held:
        raise InvalidBitsError(
            f"n_bits must lie in 0..{held} for {values.size} bytes, got {n_bits}"
        )
    return np.unpackbits(values, count=n_bits)
