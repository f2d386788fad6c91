"""Lossless compression of uploaded files."""

import os

from bit_transformer.compression.config import CodecConfig
from bit_transformer.compression.decoding import decompress_stream, recover_stream
from bit_transformer.compression.encoding import Shared, compress_stream
from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.compression.memory_limit import default_memory_limit
from bit_transformer.errors import TooLargeError
from bit_transformer.lm import BitTransformerLM
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.operations.registry import Engine, Prepared, job
from bit_transformer.server.schemas import Name, Request, Response

_PASSES = {True: 2, False: 1}
"""Passes over the data by `CodecConfig.verify`: encoding, and decoding to verify."""


class CompressRequest(Request):
    """A file to compress."""

    file: Name
    """Uploaded file."""
    out: Name
    """Name of the compressed file."""
    run: Name | None = None
    """Model that helps to predict the data. The file becomes smaller, compression becomes slower,
    and the model is needed to decompress. By default only the context mixer predicts."""
    codec: CodecConfig = CodecConfig()
    """Settings of the codec."""


class DecompressRequest(Request):
    """A file to decompress."""

    file: Name
    """Compressed file."""
    out: Name
    """Name of the decompressed file."""
    run: Name | None = None
    """Model that the file was compressed with, if any."""
    recover: bool = False
    """Recover the undamaged parts of a damaged file."""


class StoredDecompressRequest(DecompressRequest):
    """The request as it is stored for the job, with the limit of the server."""

    most_bytes: int
    """Bytes that the file may decompress to. A small file can hold a huge one (a zip bomb)."""


class Compressed(Response):
    """Result of a compression."""

    out: str
    raw_bytes: int
    coded_bytes: int
    bits_per_byte: float


class Decompressed(Response):
    """Result of a decompression."""

    out: str
    raw_bytes: int
    damage: list[str]
    """Descriptions of the damage, for a recovery."""
    missing: list[tuple[int, int]]
    """Ranges of bytes (begin, end) that could not be recovered and are filled with zeros."""


def _prepare_compression(engine: Engine, request: CompressRequest) -> Prepared:
    return _prepared(engine, request)


def _prepare_decompression(engine: Engine, request: DecompressRequest) -> Prepared:
    limit = engine.limits.output_bytes
    return _prepared(engine, StoredDecompressRequest(**dict(request), most_bytes=limit))


def _prepared(engine: Engine, request: CompressRequest | StoredDecompressRequest) -> Prepared:
    engine.workspace.file(request.file)
    engine.workspace.new_file(request.out)
    if request.run is not None:
        engine.models.require_checkpoint(engine.run(request.run))
    return Prepared(request, makes=request.out)


@job("/compress", prepare=_prepare_compression)
def compress(work: Work, request: CompressRequest) -> Compressed:
    """Compress an uploaded file losslessly, with or without a model."""
    source_path, shared = work.workspace.file(request.file), _shared(work, request.run)
    size = source_path.stat().st_size
    progress = _Progress(work, size * _PASSES[request.codec.verify])
    with source_path.open("rb") as source, work.workspace.create_file(request.out) as sink:
        found = compress_stream(
            source,
            sink,
            shared=shared,
            config=request.codec,
            length=size,
            progress=progress,
            memory_limit=default_memory_limit(),
        )
    return Compressed(
        out=request.out,
        raw_bytes=found.raw_bytes,
        coded_bytes=found.coded_bytes,
        bits_per_byte=found.bits_per_byte,
    )


@job("/decompress", prepare=_prepare_decompression, request=DecompressRequest)
def decompress(work: Work, request: StoredDecompressRequest) -> Decompressed:
    """Decompress a file, or recover the undamaged parts of a damaged one."""
    source_path, shared = work.workspace.file(request.file), _shared(work, request.run)
    progress = _Progress(work, None, request.most_bytes)
    limit = default_memory_limit()
    damage: list[str] = []
    missing: list[tuple[int, int]] = []
    with source_path.open("rb") as source, work.workspace.create_file(request.out) as sink:
        if request.recover:
            found = recover_stream(
                source,
                sink,
                shared=shared,
                progress=progress,
                most_bytes=request.most_bytes,
                memory_limit=limit,
            )
            raw_bytes, damage, missing = found.raw_bytes, found.damage, found.missing
        else:
            raw_bytes = decompress_stream(
                source, sink, shared=shared, progress=progress, memory_limit=limit
            )
    return Decompressed(out=request.out, raw_bytes=raw_bytes, damage=damage, missing=missing)


class _Progress:
    """Logs the progress of the job, and ends it on a stop request or above the output limit."""

    def __init__(self, work: Work, total: int | None, max_bytes: int | None = None) -> None:
        self._work, self._total, self._max_bytes = work, total, max_bytes
        self._done, self._logged_percent = 0, -1

    def __call__(self, more: int) -> None:
        self._work.raise_if_stopped()
        self._done += more
        if self._max_bytes is not None and self._done > self._max_bytes:
            raise TooLargeError(
                f"the file decompresses to more than {self._max_bytes:,} bytes, the limit of this "
                "server (--output-bytes); decompress it with the command line"
            )
        # At most one record for each percent, so that the log stays short.
        percent = self._done * 100 // max(self._total or self._done, 1)
        if percent != self._logged_percent or self._total is None:
            self._logged_percent = percent
            self._work.log.progress("progress", self._done, self._total, "bytes")


def _shared(work: Work, run: str | None) -> Shared:
    if run is None:
        return Shared()
    model = BitTransformerLM.from_pretrained(work.workspace.run(run).path)
    return Shared(network=LaneNetwork(model.network, threads=os.cpu_count() or 1))


OPERATIONS = (compress, decompress)
