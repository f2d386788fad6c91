"""Bits as torch tensors, and checks for a batch of them. array.py is apart: it needs no torch."""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from bit_transformer.bits.codec import bytes_to_bits
from bit_transformer.errors import InvalidBitsError, kind_of


def bits_of(data: bytes, *, parity: bool = False) -> UInt8[Tensor, "1 T"]:
    """A batch of one sequence: the bits of `data`, with a parity bit after each byte on request."""
    return torch.from_numpy(bytes_to_bits(data, parity=parity))[None]


def require_batch(bits: Any) -> None:
    """Raise `InvalidBitsError` unless `bits` is an integer tensor of shape (batch, length)."""
    if not isinstance(bits, Tensor):
        raise InvalidBitsError(
            f"bits must be a torch tensor of shape (batch, length), got {kind_of(bits)}; convert "
            "bytes with torch.from_numpy(bytes_to_bits(data))[None]"
        )
    if bits.ndim != 2 or bits.is_floating_point() or bits.is_complex():
        raise InvalidBitsError(
            f"bits must be an integer tensor of shape (batch, length), got {bits.dtype} of "
            f"shape {tuple(bits.shape)}; use bytes_to_bits to make one"
        )


def require_zeros_and_ones(bits: Tensor) -> None:
    """Raise `InvalidBitsError` unless every value is 0 or 1; the error names the first other."""
    if bits.numel() and (int(bits.min()) < 0 or int(bits.max()) > 1):
        row, column = ((bits < 0) | (bits > 1)).nonzero()[0].tolist()
        raise InvalidBitsError(
            f"bits must be 0 or 1, got {int(bits[row, column])} in row {row} at {column}; "
            "use bytes_to_bits to turn bytes into bits"
        )
