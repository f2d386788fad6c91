"""Files that are either the old or the new one, whatever happens while they are written."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bit_transformer.errors import StorageError

PARTIAL, TRASH = ".tmp-", ".trash-"
_LEFTOVER = re.compile(r"\.(?:tmp|trash)-([0-9]{1,9})-[0-9a-f]{8}-.+")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside into a `StorageError` naming `path`, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another "
            "folder"
        ) from error


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by a file of this content; `StorageError` leaves the old one in place."""
    with storage_errors(path):
        partial = temporary_sibling(path)
        try:
            write_synced(partial, content)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write and to read back that becomes `path` at the end, in one piece; after an error
    what stood there stays, and nothing else is left. Raises `StorageError` when the disk fails."""
    with storage_errors(path):
        partial = temporary_sibling(path)
        try:
            with partial.open("x+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def atomic_write_text(path: Path, content: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, content.encode())


def atomic_write_json(path: Path, content: Any) -> None:
    """`atomic_write_text` of indented JSON."""
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on disk; raises `OSError`."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_sibling(path: Path, prefix: str = PARTIAL) -> Path:
    """A free name beside `path` that tells which process it belongs to."""
    return path.with_name(f"{prefix}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def leftovers(folder: Path) -> list[Path]:
    """Temporary siblings inside `folder` whose process was killed.

    Those of the calling process count too: after a restart in a container it may have the number
    of the killed one. So ask only before writing, and have one writer a folder.
    """
    found = ((path, _LEFTOVER.fullmatch(path.name)) for path in sorted(folder.glob(".*")))
    return [path for path, match in found if match and not _lives_elsewhere(int(match[1]))]


def remove_tree(path: Path) -> None:
    """Remove a file or a folder as far as the disk lets us; what stays is found again later."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lives_elsewhere(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
