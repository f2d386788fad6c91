"""The one way a file is written here: streamed to a temporary neighbour, then moved into place."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bit_transformer.errors import storage_error


def spooled_stdin(spool: Path) -> Path:
    """Where the bytes of standard input are written down."""
    return spool / "stdin.bin"


def spool_atomically(path: Path, chunks: Iterable[bytes]) -> int:
    """Write the chunks to `path`, whole or not at all, and return how many bytes they held.

    Without any byte nothing is moved into place. Raises StorageError when the disk refuses;
    whatever the chunks raise passes through. In all three cases the file that was there before
    is untouched.
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
