"""Results that compiled code has to have, checked once per machine and version.

Caught here are processors and compilers that do not keep to IEEE 754, which would write files that
nobody else can read. A check that was passed is noted on disk, under a digest of the code, of the
compilers and of the processor; where nothing can be noted, it runs once in every process.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.block import BlockCoder, BlockShape
from bit_transformer.compression.network import Network
from bit_transformer.errors import ForeignArithmeticError
from bit_transformer.native.functions import machine
from bit_transformer.native.store import keep, load

_SAMPLE = b"".join(b"%d bits make a byte, %d a patch; " % (8 * n % 61, n * n) for n in range(40))
_SOURCES = ("bits", "compression", "model", "native", "quantization.py")
"""What the results depend on, in the package."""
_NOTE = "self-test."


@functools.cache
def check(name: str, compute: Callable[[], str], pinned: str) -> None:
    """Raises `ForeignArithmeticError` unless the result is the pinned one, or was found to be here
    before, by the same code."""
    note = _NOTE + name.replace(" ", "-")
    key = b"\n".join([machine(), digest_of_sources(), pinned.encode()])
    if load(note, key) == pinned.encode():
        return
    found = compute()
    if found != pinned:
        raise ForeignArithmeticError(
            f"{name} computes {found} here and has to compute {pinned}: this processor, or the "
            "compiler for it (numba), does not keep to IEEE 754, so that compressed files could "
            "not be exchanged with other machines; try another version of numba"
        )
    keep(note, key, pinned.encode())


@functools.cache
def digest_of_sources() -> bytes:
    """Of the code that the results depend on."""
    digest = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parents[1]
    for name in _SOURCES:
        place = package / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)} ".encode() + content)
    return digest.digest()


def code(profile: int, network: Network | None = None) -> UInt8[np.ndarray, " _"]:
    """Of the sample, as a block of one segment."""
    shape = BlockShape(len(_SAMPLE), 2 * len(_SAMPLE), 1, profile, 12)
    coder = BlockCoder(shape, network=network)
    (segment,) = coder.encode(np.frombuffer(_SAMPLE, np.uint8).copy())
    return np.frombuffer(segment.payload, np.uint8)


def digest_of(values: np.ndarray) -> str:
    """Of numbers, whatever the order of bytes in memory."""
    little_endian = values.astype(values.dtype.newbyteorder("<"))
    return hashlib.blake2b(little_endian.tobytes(), digest_size=8).hexdigest()
