"""Lossless compression of uploaded files."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bit_transformer.checkpoint.atomic import storage_errors, temporary_sibling
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
from bit_transformer.server.workspace import claim

_PASSES = {True: 2, False: 1}
"""Verification decodes what was encoded."""


class CompressRequest(Request):
    """A file to compress."""

    file: Name
    """Uploaded file."""
    out: Name
    """Name of the compressed file."""
    run: Name | None = None
    """Model that takes part: smaller, slower, and needed to decompress; without one the mixer
    works alone."""
    codec: CodecConfig = CodecConfig()
    """How files are compressed."""


class DecompressRequest(Request):
    """A compressed file."""

    file: Name
    """Compressed file."""
    out: Name
    """Name of the file it becomes."""
    run: Name | None = None
    """The model it was compressed with, if there was one."""
    recover: bool = False
    """Save what can be saved of a damaged file."""


class DecompressOrder(DecompressRequest):
    """The same, as its job is told."""

    most_bytes: int
    """What it may come to."""


class Compressed(Response):
    """What compression came to."""

    out: str
    raw_bytes: int
    coded_bytes: int
    bits_per_byte: float


class Decompressed(Response):
    """What decompression came to."""

    out: str
    raw_bytes: int
    damage: list[str]
    """What was found wrong, in a file that was to be recovered."""
    missing: list[tuple[int, int]]
    """(begin, end) of what could not be recovered; zeros are written there."""


def _prepare_compression(engine: Engine, request: CompressRequest) -> Prepared:
    return _prepared(engine, request)


def _prepare_decompression(engine: Engine, request: DecompressRequest) -> Prepared:
    order = DecompressOrder(**dict(request), most_bytes=engine.limits.output_bytes)
    return _prepared(engine, order)


def _prepared(engine: Engine, request: CompressRequest | DecompressOrder) -> Prepared:
    engine.workspace.file(request.file)
    engine.workspace.new_file(request.out)
    if request.run is not None:
        engine.models.require_checkpoint(engine.run(request.run))
    return Prepared(request, makes=request.out)


@job("/compress", prepare=_prepare_compression)
def compress(work: Work, request: CompressRequest) -> Compressed:
    """Compress an uploaded file losslessly, with a model or without."""
    source_path, shared = work.workspace.file(request.file), _shared(work, request.run)
    size = source_path.stat().st_size
    told = _Telling(work, size * _PASSES[request.codec.verify])
    with source_path.open("rb") as source, _new_output(work, request.out) as sink:
        found = compress_stream(
            source,
            sink,
            shared=shared,
            config=request.codec,
            length=size,
            progress=told,
            memory_limit=default_memory_limit(),
        )
    return Compressed(
        out=request.out,
        raw_bytes=found.raw_bytes,
        coded_bytes=found.coded_bytes,
        bits_per_byte=found.bits_per_byte,
    )


@job("/decompress", prepare=_prepare_decompression, request=DecompressRequest)
def decompress(work: Work, request: DecompressOrder) -> Decompressed:
    """Decompress a file, or save what can be saved of a damaged one."""
    source_path, shared = work.workspace.file(request.file), _shared(work, request.run)
    told = _Telling(work, None, request.most_bytes)
    limit = default_memory_limit()
    damage: list[str] = []
    missing: list[tuple[int, int]] = []
    with source_path.open("rb") as source, _new_output(work, request.out) as sink:
        if request.recover:
            found = recover_stream(
                source,
                sink,
                shared=shared,
                progress=told,
                most_bytes=request.most_bytes,
                memory_limit=limit,
            )
            raw_bytes, damage, missing = found.raw_bytes, found.damage, found.missing
        else:
            raw_bytes = decompress_stream(
                source, sink, shared=shared, progress=told, memory_limit=limit
            )
    return Decompressed(out=request.out, raw_bytes=raw_bytes, damage=damage, missing=missing)


class _Telling:
    """Tells the job how far it is, stops it when it should end or makes too much."""

    def __init__(self, work: Work, total: int | None, most: int | None = None) -> None:
        self._work, self._total, self._most, self._done, self._told = work, total, most, 0, -1

    def __call__(self, more: int) -> None:
        self._work.give_way()
        self._done += more
        if self._most is not None and self._done > self._most:
            raise TooLargeError(
                f"the file decompresses to more than {self._most:,} bytes, the most this server "
                "makes (--output-bytes); use the command line"
            )
        # A line for each hundredth at most: a log is no place for every kilobyte.
        share = self._done * 100 // max(self._total or self._done, 1)
        if share != self._told or self._total is None:
            self._told = share
            self._work.log.progress("progress", self._done, self._total, "bytes")


def _shared(work: Work, run: str | None) -> Shared:
    if run is None:
        return Shared()
    model = BitTransformerLM.from_pretrained(work.workspace.run(run).path)
    return Shared(network=LaneNetwork(model.network, threads=os.cpu_count() or 1))


@contextmanager
def _new_output(work: Work, name: str) -> Iterator[BinaryIO]:
    """A file that appears under its name once it is whole, unless that is taken by then."""
    target = work.workspace.new_file(name)
    partial: Path = temporary_sibling(target)
    try:
        with storage_errors(target), partial.open("w+b") as sink:
            yield sink
        with storage_errors(target):
            claim(partial, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


OPERATIONS = (compress, decompress)
