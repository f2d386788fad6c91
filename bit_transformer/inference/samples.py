"""Continuations of a prompt in bytes. A sample does not depend on the number of samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from bit_transformer.bits.codec import bits_per_symbol, bits_to_bytes
from bit_transformer.bits.tensor import bits_of
from bit_transformer.errors import ConfigError
from bit_transformer.inference.generate import stream_bits
from bit_transformer.inference.predictor import Source
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import Ended, Stop


@dataclass(frozen=True)
class Sample:
    """One continuation."""

    content: bytes
    """The new bytes."""
    ended: Ended
    """Why generation ended."""


def in_bytes(pieces: Iterable[UInt8[np.ndarray, " _"]], *, parity: bool) -> Iterator[bytes]:
    """Convert pieces of bits to bytes. Each byte is yielded as soon as it is complete."""
    pending, width = np.zeros(0, np.uint8), bits_per_symbol(parity)
    for bits in pieces:
        pending = np.concatenate((pending, bits))
        whole = len(pending) // width * width
        if whole:
            yield bits_to_bytes(pending[:whole], parity=parity)
            pending = pending[whole:]


def draw_samples(
    source: Source,
    prompt: bytes,
    new_bytes: int,
    sampling: SamplingConfig,
    *,
    seed: int = 0,
    samples: int = 1,
    stop: Stop = (),
) -> Iterator[Sample]:
    """Yield continuations of `prompt`, one after the other.

    Sample i depends only on the seed and on i, to the last bit. The samples are therefore not drawn
    as a batch, because sums in a batch are rounded differently. Raises `ConfigError` for fewer than
    one sample or byte or a seed outside its limits, and the errors of `stream_patches`.
    """
    if samples < 1 or new_bytes < 1:
        raise ConfigError(
            f"samples and new_bytes must be at least 1, got {samples} and {new_bytes}"
        )
    parity, width = source.config.parity, source.config.bits_per_byte
    bits = bits_of(prompt, parity=parity)
    for index in range(samples):
        stream = stream_bits(
            source, bits, new_bytes * width, sampling, seeded(seed), stop=stop, first_row=index
        )
        pieces = (piece[0].cpu().numpy() for piece in stream)
        content = b"".join(in_bytes(pieces, parity=parity))
        assert stream.ended is not None
        yield Sample(content, stream.ended)
