"""Checks that compiled code computes the pinned results, once per machine and version.

A processor or compiler that does not keep to IEEE 754 would write files that nobody else can read.
A check that was passed is noted on disk, under a digest of the code, the compilers and the
processor. If nothing can be stored there, the check runs once in every process.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.block import BlockCoder, BlockShape
from bit_transformer.compression.contexts import BINARY, RICH_TEXT, TEXT
from bit_transformer.compression.network import Network
from bit_transformer.errors import ForeignArithmeticError
from bit_transformer.native.functions import machine
from bit_transformer.native.store import keep, load

_MIXER_DIGEST = "9beeb721317aa853"
_SAMPLE = b"".join(b"%d bits make a byte, %d a patch; " % (8 * n % 61, n * n) for n in range(40))
_SOURCES = ("bits", "compression", "model", "native", "quantization.py")
"""Parts of the package that the results depend on."""
_NOTE = "self-test."


def check_mixing() -> None:
    """Raise `ForeignArithmeticError` unless mixing computes the pinned results here."""
    check("mixing", mixer_digest, _MIXER_DIGEST)


@functools.cache
def check(name: str, compute: Callable[[], str], pinned: str) -> None:
    """Raise `ForeignArithmeticError` unless the result is the pinned one. A note on disk that the
    same code has passed on this machine saves computing it."""
    note = _NOTE + name.replace(" ", "-")
    key = b"\n".join([machine(), digest_of_sources(), pinned.encode()])
    if load(note, key) == pinned.encode():
        return
    found = compute()
    if found != pinned:
        raise ForeignArithmeticError(
            f"{name} computes {found} on this machine and must compute {pinned}: the processor, or "
            "numba's compiler for it, does not keep to IEEE 754, so other machines could not read "
            "the compressed files; try another version of numba"
        )
    keep(note, key, pinned.encode())


@functools.cache
def digest_of_sources() -> bytes:
    """Return a digest of the source code that the results depend on."""
    digest = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parents[1]
    for name in _SOURCES:
        place = package / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            content = path.read_bytes()
            digest.update(f"{path.name} {len(content)} ".encode() + content)
    return digest.digest()


@functools.cache
def mixer_digest() -> str:
    """Return a digest of the sample's codes under every profile."""
    return digest_of(np.concatenate([code(profile) for profile in (TEXT, BINARY, RICH_TEXT)]))


def code(profile: int, network: Network | None = None) -> UInt8[np.ndarray, " _"]:
    """Return the code of the sample as a block of one segment."""
    shape = BlockShape(len(_SAMPLE), 2 * len(_SAMPLE), 1, profile, 12)
    coder = BlockCoder(shape, network=network)
    (segment,) = coder.encode(np.frombuffer(_SAMPLE, np.uint8).copy())
    return np.frombuffer(segment.payload, np.uint8)


def digest_of(values: np.ndarray) -> str:
    """Return a digest of numbers that does not depend on the byte order of this machine."""
    little_endian = values.astype(values.dtype.newbyteorder("<"))
    return hashlib.blake2b(little_endian.tobytes(), digest_size=8).hexdigest()
