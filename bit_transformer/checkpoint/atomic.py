"""Files that are either the old or the new one, whatever happens while they are written."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bit_transformer.errors import StorageError


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside into a `StorageError` that names `path`, the reason and the
    remedy."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another "
            "folder (what was there before is untouched)"
        ) from error


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by a file of this content; `StorageError` leaves the old one in place."""
    with storage_errors(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise
        sync_folder(path.parent)


def atomic_write_text(path: Path, content: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, content.encode())


def atomic_write_json(path: Path, content: Any) -> None:
    """`atomic_write_text` of indented JSON."""
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
