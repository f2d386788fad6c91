"""Writes a stream to a file: the whole stream or nothing."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bit_transformer.atomic import atomic_file, storage_errors


class _NothingToWrite(Exception):
    """Keeps the old file, because the stream holds no byte."""


def spooled_stdin(spool: Path) -> Path:
    """Return the path of the file that keeps the bytes of standard input."""
    return spool / "stdin.bin"


def spool_atomically(path: Path, chunks: Iterable[bytes]) -> int:
    """Write the chunks to `path` and return the number of bytes written.

    The file that was there before stays untouched if the chunks hold no byte, if the disk refuses
    (StorageError), or if the chunks raise an error, which passes through.
    """
    written = 0
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(_NothingToWrite), atomic_file(path) as file:
        for chunk in chunks:
            written += file.write(chunk)
        if not written:
            raise _NothingToWrite
    return written
