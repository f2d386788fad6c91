"""Lets the context mixer of a run learn uploaded files."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from bit_transformer.compression.config import MAX_TABLE_BITS, MIN_TABLE_BITS
from bit_transformer.compression.contexts import BINARY, CONTEXTS, RICH_TEXT
from bit_transformer.compression.mixer_file import (
    DEFAULT_TABLE_BITS,
    MIXER,
    mixer_to_warm,
    save_warmed,
    stamp_of,
)
from bit_transformer.compression.tables import table_bytes
from bit_transformer.errors import ConfigError, TooLargeError
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.operations.registry import Engine, Prepared, job
from bit_transformer.server.schemas import Name, Request, Response

_PIECE_BYTES = 1 << 18
"""Bytes that are learned between two reports of progress, which are also chances to stop."""


class WarmRequest(Request):
    """Files for the mixer of a run."""

    run: Name
    """Run or model whose mixer learns."""
    files: Annotated[list[Name], Field(min_length=1, max_length=100)]
    """Uploaded files, which are learned in order."""
    append: bool = False
    """Go on from the saved mixer of the run. By default the new mixer replaces it."""
    table_bits: Annotated[int, Field(ge=MIN_TABLE_BITS, le=MAX_TABLE_BITS)] | None = None
    """The mixer's hash table has 2**table_bits entries of 64 bytes, by default 2**20. With `append`
    it stays as it is."""


class Warmed(Response):
    """The saved mixer of a run."""

    run: str
    learned_bytes: int
    """Bytes that this job let it learn."""
    remembered_bytes: int
    """Bytes that it has learned in all."""
    file_bytes: int
    """Size of its file."""
    table_bits: int
    contexts: Literal["text", "binary"]
    """Kind of data that its contexts are for. The beginning of the first file decides."""


def _prepare(engine: Engine, request: WarmRequest) -> Prepared:
    run = engine.run(request.run)
    engine.models.require_checkpoint(run)
    size = sum(engine.workspace.file(name).stat().st_size for name in request.files)
    if not size:
        raise ConfigError("the files must have at least 1 byte, got 0")
    bits = DEFAULT_TABLE_BITS if request.table_bits is None else request.table_bits
    needed = table_bytes(size, bits, CONTEXTS[RICH_TEXT], network=True)
    saved = run.path / MIXER
    if request.append and saved.exists():
        needed = saved.stat().st_size + size
    if needed > engine.limits.mixer_bytes:
        raise TooLargeError(
            f"the mixer of a run must have at most {engine.limits.mixer_bytes:,} bytes "
            f"(--mixer-bytes), and this one may have {needed:,}; use smaller table_bits or less "
            "data"
        )
    return Prepared(request, writes=request.run)


@job("/warm", prepare=_prepare)
def warm(work: Work, request: WarmRequest) -> Warmed:
    """Let the context mixer of a run learn uploaded files and save it with the run, for requests
    with `mix`. The model itself does not change."""
    paths = [work.workspace.file(name) for name in request.files]
    pieces = _pieces(work, paths)
    path = work.workspace.run(request.run).path / MIXER
    first = next(pieces, np.zeros(0, np.uint8))
    since = stamp_of(path)
    mixer = mixer_to_warm(path, first, append=request.append, table_bits=request.table_bits)
    before = mixer.bits_read
    mixer.learn_pieces(chain([first], pieces))
    save_warmed(path, mixer, since, append=request.append)
    return Warmed(
        run=request.run,
        learned_bytes=(mixer.bits_read - before) // 8,
        remembered_bytes=mixer.bits_read // 8,
        file_bytes=path.stat().st_size,
        table_bits=mixer.table_bits,
        contexts="binary" if mixer.profile == BINARY else "text",
    )


def _pieces(work: Work, paths: list[Path]) -> Iterator[np.ndarray]:
    """Yield the bytes of all files, and report each piece when the next one is taken."""
    total, done = sum(path.stat().st_size for path in paths), 0
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                work.raise_if_stopped()
                yield np.frombuffer(piece, np.uint8)
                done += len(piece)
                work.log.progress("progress", done, total, "bytes")


OPERATIONS = (warm,)
