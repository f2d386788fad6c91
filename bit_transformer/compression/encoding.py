"""Compresses bytes, files and streams of any length, a block at a time in constant memory."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.block import BlockCoder, Progress, block_shape
from bit_transformer.compression.container import (
    BLOCK_HEADER_BYTES,
    MOST_BLOCK_BYTES,
    BlockHeader,
    End,
    Header,
    digest_of,
    segment_bytes,
)
from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.compression.self_test import check_arithmetic
from bit_transformer.errors import ConfigError, ContainerError, VerificationError

_PIECE_BYTES = 1 << 16


@runtime_checkable
class Sink(Protocol):
    """Where bytes are written to."""

    def write(self, content: bytes, /) -> object:
        """Append all of it."""


@dataclass(frozen=True)
class CodecConfig:
    """How files are compressed. A decoder finds all of it in the file."""

    block_bytes: int = 16 << 20
    """Blocks are independent: damage stays in one, and memory grows with this. Larger blocks are
    smaller files."""
    segment_bytes: int = 1 << 18
    """Damage in a block leaves what is in the segments before it."""
    lanes: int = 64
    """Stretches of a block that a network reads at a time. More are faster and a little larger."""
    verify: bool = True
    """Decode every block before it is written."""

    def __post_init__(self) -> None:
        for name, most in (("block_bytes", MOST_BLOCK_BYTES), ("lanes", 1024)):
            if not 1 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be in [1, {most}], got {getattr(self, name)}")
        if not 1 <= self.segment_bytes <= self.block_bytes:
            raise ConfigError(
                f"segment_bytes must be in [1, block_bytes={self.block_bytes}], got "
                f"{self.segment_bytes}"
            )


@dataclass(frozen=True)
class Shared:
    """What encoder and decoder both have beforehand."""

    network: LaneNetwork | None = None
    given: UInt8[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """Bytes like those to be compressed: the mixer learns them first."""

    @property
    def network_digest(self) -> bytes:
        """What a header holds of the network."""
        return b"" if self.network is None else self.network.digest

    @property
    def given_digest(self) -> bytes:
        """What a header holds of the bytes given."""
        return digest_of(self.given.tobytes()).digest() if len(self.given) else b""


NOTHING_SHARED = Shared()
DEFAULT_CONFIG = CodecConfig()


@dataclass(frozen=True)
class Compressed:
    """What compression came to."""

    raw_bytes: int
    coded_bytes: int
    """Of the whole file."""

    @property
    def bits_per_byte(self) -> float:
        """Of the original; 0 for none."""
        return 8 * self.coded_bytes / self.raw_bytes if self.raw_bytes else 0.0


def compress_stream(
    source: BinaryIO,
    sink: Sink,
    *,
    shared: Shared = NOTHING_SHARED,
    config: CodecConfig = DEFAULT_CONFIG,
    length: int | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Compress all that is in `source`, whose `length` is told in the header where it is known.

    Raises `VerificationError` when decoding does not give a block back, and `ContainerError` when
    the source has another length; what is written by then is no whole file.
    """
    check_arithmetic(network=shared.network is not None)
    header = Header(
        config.block_bytes,
        config.segment_bytes,
        length,
        shared.network_digest,
        shared.given_digest,
    ).to_bytes()
    sink.write(header)
    digest, rows, coded_bytes = digest_of(), [], len(header)
    for index, data in enumerate(_blocks_of(source, config.block_bytes)):
        block = _encode_block(index, data, shared, config, progress)
        sink.write(block)
        digest.update(data.tobytes())
        rows.append((len(data), len(block) - BLOCK_HEADER_BYTES))
        coded_bytes += len(block)
    raw_bytes = sum(raw for raw, _ in rows)
    if length not in (None, raw_bytes):
        raise ContainerError(
            f"the input had {length} bytes at first and {raw_bytes} when read; compress a file "
            "that nobody is writing"
        )
    end = End(raw_bytes, digest.digest(), tuple(rows)).to_bytes()
    sink.write(end)
    return Compressed(raw_bytes, coded_bytes + len(end))


def _blocks_of(source: BinaryIO, block_bytes: int) -> Iterator[UInt8[np.ndarray, " _"]]:
    """The source in whole blocks, however it comes."""
    held: list[bytes] = []
    size = 0
    while piece := source.read(min(_PIECE_BYTES, block_bytes - size)):
        held.append(piece)
        size += len(piece)
        if size == block_bytes:
            yield np.frombuffer(b"".join(held), np.uint8).copy()
            held, size = [], 0
    if held:
        yield np.frombuffer(b"".join(held), np.uint8).copy()


def _encode_block(
    index: int, data: np.ndarray, shared: Shared, config: CodecConfig, progress: Progress | None
) -> bytes:
    lanes = 1 if shared.network is None else config.lanes
    shape = block_shape(data, shared.given, segment_bytes=config.segment_bytes, lanes=lanes)
    coder = BlockCoder(shape, network=shared.network, given=shared.given, progress=progress)
    segments = list(coder.encode(data))
    # Its tables are as large as those of the decoder below.
    del coder
    if config.verify:
        decoder = BlockCoder(shape, network=shared.network, given=shared.given, progress=progress)
        if not (all(map(decoder.decode, segments)) and np.array_equal(decoder.decoded(), data)):
            raise VerificationError(
                f"decoding block {index} did not give its bytes back, so nothing was kept; the "
                "memory or processor of this machine may be faulty: try again, or report it"
            )
    content = b"".join(map(segment_bytes, segments))
    return BlockHeader(index, shape, len(content)).to_bytes() + content


def encode_bytes(
    data: bytes, *, shared: Shared = NOTHING_SHARED, config: CodecConfig = DEFAULT_CONFIG
) -> bytes:
    """The compressed file of some bytes."""
    sink = io.BytesIO()
    compress_stream(
        io.BytesIO(data), sink, shared=shared, config=config, length=len(data)
    )
    return sink.getvalue()
