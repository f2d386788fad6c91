"""Compresses bytes, files and streams of any length, a block at a time in constant memory."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from bit_transformer.compression.block import (
    BlockCoder,
    BlockShape,
    Progress,
    Segment,
    block_shape,
    memory_of,
    table_bits_for,
)
from bit_transformer.compression.config import DEFAULT_CONFIG, CodecConfig
from bit_transformer.compression.container import (
    BlockHeader,
    End,
    Header,
    Sink,
    Source,
    digest_of,
    segment_bytes,
)
from bit_transformer.compression.contexts import RICH_TEXT
from bit_transformer.compression.memory_limit import check_memory
from bit_transformer.compression.network import HoldsNetwork, Network
from bit_transformer.compression.self_test import check_arithmetic
from bit_transformer.errors import VerificationError

_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Shared:
    """What encoder and decoder both have beforehand."""

    network: Network | None = None
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


def share(model: HoldsNetwork | None = None, given: bytes = b"", *, threads: int = 1) -> Shared:
    """A model, and bytes, that encoder and decoder both have; `threads` share out several lanes."""
    network = None
    if model is not None:
        # With a model PyTorch is loaded already; without one it is not needed.
        from bit_transformer.compression.lane_network import LaneNetwork

        network = LaneNetwork(model.network, threads=threads)
    return Shared(network, np.frombuffer(given, np.uint8).copy())


NOTHING_SHARED = Shared()


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
    source: Source,
    sink: Sink,
    *,
    shared: Shared = NOTHING_SHARED,
    config: CodecConfig = DEFAULT_CONFIG,
    length: int | None = None,
    progress: Progress | None = None,
    memory_limit: int | None = None,
) -> Compressed:
    """Compress all that is in `source`, whose `length` is told in the header where it is known.

    A source that turns out to have another length, because somebody writes to it, still makes a
    whole file of what was read. Raises `VerificationError` when decoding does not give a block
    back, and `MemoryLimitError` before anything is written.
    """
    check_memory(memory_to_compress(config, shared, length), memory_limit, "compressing")
    check_arithmetic(network=shared.network is not None)
    header = Header(
        config.block_bytes,
        config.segment_bytes,
        length,
        shared.network_digest,
        shared.given_digest,
    )
    opening = header.to_bytes()
    sink.write(opening)
    digest, rows, coded_bytes = digest_of(), [], len(opening)
    for index, data in enumerate(_blocks_of(source, config.block_bytes)):
        shape, content = _encode_block(index, data, shared, config, progress)
        block = BlockHeader(index, shape, len(content)).to_bytes(header) + content
        sink.write(block)
        digest.update(data.tobytes())
        rows.append((len(data), len(content)))
        coded_bytes += len(block)
    raw_bytes = sum(raw for raw, _ in rows)
    end = End(raw_bytes, digest.digest(), tuple(rows)).to_bytes(header)
    sink.write(end)
    return Compressed(raw_bytes, coded_bytes + len(end))


def memory_to_compress(
    config: CodecConfig, shared: Shared = NOTHING_SHARED, length: int | None = None
) -> int:
    """Bytes that compressing so much takes at most, a network's own not counted."""
    block = config.block_bytes if length is None else min(length, config.block_bytes)
    given, network = len(shared.given), shared.network is not None
    bits = min(table_bits_for(block + given), config.table_bits)
    shape = BlockShape(block, config.segment_bytes, 1, RICH_TEXT, bits)
    coders = 2 if config.verify else 1
    return coders * memory_of(shape, given, network=network) + 3 * block


def _blocks_of(source: Source, block_bytes: int) -> Iterator[UInt8[np.ndarray, " _"]]:
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
) -> tuple[BlockShape, bytes]:
    """How a block is coded, and its segments."""
    shape = block_shape(
        data,
        shared.given,
        segment_bytes=config.segment_bytes,
        lanes=1 if shared.network is None else config.lanes,
        table_bits=config.table_bits,
        rich=config.best or shared.network is not None,
    )
    coder = BlockCoder(shape, network=shared.network, given=shared.given, progress=progress)
    if config.verify:
        segments = list(_verified(coder.encode(data), data, shape, shared, index))
    else:
        segments = list(coder.encode(data))
    return shape, b"".join(map(segment_bytes, segments))


def _verified(
    segments: Iterator[Segment], data: np.ndarray, shape: BlockShape, shared: Shared, index: int
) -> Iterator[Segment]:
    """The same segments, each decoded in another thread while the next ones are encoded."""
    decoder = BlockCoder(shape, network=shared.network, given=shared.given)
    thread, decoded = ThreadPoolExecutor(1), []
    try:
        for segment in segments:
            decoded.append(thread.submit(decoder.decode, segment))
            yield segment
        whole = all(each.result() for each in decoded)
    finally:
        # After an interruption nobody waits for what is still to be decoded.
        thread.shutdown(cancel_futures=True)
    if not (whole and np.array_equal(decoder.decoded(), data)):
        raise VerificationError(
            f"decoding block {index} did not give its bytes back, so nothing was kept; the "
            "memory or processor of this machine may be faulty: try again, or report it"
        )


def encode_bytes(
    data: bytes, *, shared: Shared = NOTHING_SHARED, config: CodecConfig = DEFAULT_CONFIG
) -> bytes:
    """The compressed file of some bytes."""
    sink = io.BytesIO()
    compress_stream(io.BytesIO(data), sink, shared=shared, config=config, length=len(data))
    return sink.getvalue()


def encode(
    model: HoldsNetwork | None,
    data: bytes,
    *,
    given: bytes = b"",
    config: CodecConfig = DEFAULT_CONFIG,
) -> bytes:
    """`data` without loss in fewer bytes: by context mixing, and by a model where there is one.

    `given` are bytes like these that the mixer learns first. The result is a whole compressed file,
    see docs/formats/compressed.md. Raises `VerificationError` if it does not decode to `data`.
    """
    return encode_bytes(data, shared=share(model, given), config=config)
