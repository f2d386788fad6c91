"""Compresses bytes, files and streams of any length. Only one block is in memory at a time."""

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
from bit_transformer.compression.self_test import check_mixing
from bit_transformer.errors import VerificationError

_PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Shared:
    """The network and the dictionary, which the encoder and the decoder must both have."""

    network: Network | None = None
    dictionary: UInt8[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """Bytes like those to be compressed. The mixer learns them first."""

    @property
    def network_digest(self) -> bytes:
        """The network's digest in the file's header. Empty without a network."""
        return b"" if self.network is None else self.network.digest

    @property
    def dictionary_digest(self) -> bytes:
        """The dictionary's digest in the file's header. Empty without a dictionary."""
        return digest_of(self.dictionary.tobytes()).digest() if len(self.dictionary) else b""

    def check_arithmetic(self) -> None:
        """Raise `ForeignArithmeticError` unless this machine computes the pinned results."""
        check_mixing()
        if self.network is not None:
            # This imports PyTorch, which mixing alone does not need.
            from bit_transformer.compression.network_self_test import check_network

            check_network()


def share(model: HoldsNetwork | None = None, given: bytes = b"", *, threads: int = 1) -> Shared:
    """Return a model's network and the dictionary `given`. The lanes are divided among threads."""
    network = None
    if model is not None:
        # As above: whoever has a model has loaded PyTorch already.
        from bit_transformer.compression.lane_network import LaneNetwork

        network = LaneNetwork(model.network, threads=threads)
    return Shared(network, np.frombuffer(given, np.uint8).copy())


NOTHING_SHARED = Shared()


@dataclass(frozen=True)
class Compressed:
    """The sizes before and after compression."""

    raw_bytes: int
    coded_bytes: int
    """Bytes of the whole compressed file."""

    @property
    def bits_per_byte(self) -> float:
        """Bits of the file per byte of the original; 0 for an empty original."""
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
    """Compress everything in `source`, and note its `length` in the header if it is known.

    If the source turns out to have another length, because somebody writes to it, the result is
    still a whole file of what was read. Raises `VerificationError` if a block does not decode to
    its bytes, and `MemoryLimitError` before anything is written.
    """
    check_memory(memory_to_compress(config, shared, length), memory_limit, "compressing")
    shared.check_arithmetic()
    header = Header(
        config.block_bytes,
        config.segment_bytes,
        length,
        shared.network_digest,
        shared.dictionary_digest,
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
    """Return the most memory that compressing `length` bytes takes, without the network's own."""
    block = config.block_bytes if length is None else min(length, config.block_bytes)
    dictionary, network = len(shared.dictionary), shared.network is not None
    bits = min(table_bits_for(block + dictionary), config.table_bits)
    shape = BlockShape(block, config.segment_bytes, 1, RICH_TEXT, bits)
    coders = 2 if config.verify else 1
    return coders * memory_of(shape, dictionary, network=network) + 3 * block


def _blocks_of(source: Source, block_bytes: int) -> Iterator[UInt8[np.ndarray, " _"]]:
    """Yield the source in whole blocks, however short the pieces are that it returns."""
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
    """Return the shape of a block, and its segments as they are written."""
    shape = block_shape(
        data,
        shared.dictionary,
        segment_bytes=config.segment_bytes,
        lanes=1 if shared.network is None else config.lanes,
        table_bits=config.table_bits,
        rich=config.best or shared.network is not None,
    )
    coder = BlockCoder(
        shape, network=shared.network, dictionary=shared.dictionary, progress=progress
    )
    if config.verify:
        segments = list(_verified(coder.encode(data), data, shape, shared, index))
    else:
        segments = list(coder.encode(data))
    return shape, b"".join(map(segment_bytes, segments))


def _verified(
    segments: Iterator[Segment], data: np.ndarray, shape: BlockShape, shared: Shared, index: int
) -> Iterator[Segment]:
    """Yield the same segments, and decode each in another thread while the next are encoded."""
    decoder = BlockCoder(shape, network=shared.network, dictionary=shared.dictionary)
    thread, decoded = ThreadPoolExecutor(1), []
    try:
        for segment in segments:
            decoded.append(thread.submit(decoder.decode, segment))
            yield segment
        whole = all(each.result() for each in decoded)
    finally:
        # After an interruption, do not wait for the segments that are still to be decoded.
        thread.shutdown(cancel_futures=True)
    if not (whole and np.array_equal(decoder.decoded(), data)):
        raise VerificationError(
            f"block {index} does not decode to its bytes, so nothing is kept; the memory or the "
            "processor of this machine may be faulty: try again, or report a bug"
        )


def encode_bytes(
    data: bytes, *, shared: Shared = NOTHING_SHARED, config: CodecConfig = DEFAULT_CONFIG
) -> bytes:
    """Return the bytes as a compressed file."""
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
    """Compress `data` without loss, by context mixing and by the model if there is one.

    `given` is a dictionary: bytes like `data`, which the mixer learns first. The result is a whole
    compressed file; see docs/formats/compressed.md. Raises `VerificationError` if it does not
    decode to `data`.
    """
    return encode_bytes(data, shared=share(model, given), config=config)
