"""Writes a stream to a file: to a temporary file in the same folder first, then moved into place.

It repeats a little of checkpoint/atomic.py, because this folder is below that one.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bit_transformer.errors import storage_error


def spooled_stdin(spool: Path) -> Path:
    """Return the path of the file that keeps the bytes of standard input."""
    return spool / "stdin.bin"


def spool_atomically(path: Path, chunks: Iterable[bytes]) -> int:
    """Write the chunks to `path` and return the number of bytes written.

    The file that was there before stays untouched if the chunks hold no byte, if the disk refuses
    (StorageError), or if the chunks raise an error, which passes through.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".spool-")
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        written = _write(descriptor, chunks)
        if written:
            os.replace(name, path)
        else:
            os.unlink(name)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise storage_error(path, error) from error
        raise
    return written


def _write(descriptor: int, chunks: Iterable[bytes]) -> int:
    written = 0
    with os.fdopen(descriptor, "wb") as file:
        for chunk in chunks:
            written += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return written
