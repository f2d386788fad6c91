"""Run lengths as an interleaved uint8 stream: value, run, value, run, ... with 1 <= run <= 255.

The encoder splits a longer run into runs of 255 and a remainder. The decoder accepts any split.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from bit_transformer.bits.array import BitsLike, as_bits, as_byte_values
from bit_transformer.errors import InvalidBitsError

MAX_RUN = 255


def compress_bits(bits: BitsLike) -> UInt8[np.ndarray, " stream"]:
    """Encode n bits as a run-length stream; raises InvalidBitsError unless all are 0 or 1."""
    flat = as_bits(bits)
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] ^ 1))
    lengths = np.diff(starts, append=flat.size)
    pieces = -(-lengths // MAX_RUN)
    runs = np.full(int(pieces.sum()), MAX_RUN, np.uint8)
    runs[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * MAX_RUN
    return np.stack([np.repeat(flat[starts], pieces), runs], axis=1).ravel()


def decompress_bits(stream: BitsLike) -> UInt8[np.ndarray, " n"]:
    """Decode a run-length stream.

    Raises InvalidBitsError, with the index in the stream, for an odd length, a value other than 0
    and 1, or a run outside 1..255.
    """
    pairs = as_byte_values(stream)
    if pairs.size % 2:
        raise InvalidBitsError(
            f"a run-length stream holds pairs, got {pairs.size} values: "
            f"the value at index {pairs.size - 1} has no run"
        )
    values, runs = pairs[::2], pairs[1::2]
    bad = (values > 1) | (runs == 0)
    if bad.any():
        index = 2 * int(bad.argmax())
        raise InvalidBitsError(_describe_bad_pair(index, int(pairs[index])))
    return np.repeat(values, runs)


def model_output_decompress(
    streams: BitsLike | Sequence[BitsLike],
) -> list[UInt8[np.ndarray, " _"]]:
    """Decode one run-length stream, or a list or two-dimensional array of streams.

    One stream gives a list with one array. An empty list is an empty batch. Raises the errors of
    `decompress_bits`.
    """
    if _is_batch(streams):
        return [decompress_bits(stream) for stream in streams]  # type: ignore[union-attr]
    return [decompress_bits(streams)]


def _is_batch(streams: BitsLike | Sequence[BitsLike]) -> bool:
    if not isinstance(streams, list | tuple):
        return np.ndim(streams) == 2
    return not streams or isinstance(streams[0], list | tuple) or np.ndim(streams[0]) == 1


def _describe_bad_pair(index: int, value: int) -> str:
    if value > 1:
        return f"the value at index {index} of the stream is {value}, but must be 0 or 1"
    return f"the run at index {index + 1} of the stream is 0, but must be 1..{MAX_RUN}"
