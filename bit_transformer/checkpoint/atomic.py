"""Files that are either the old or the new one, whatever happens while they are written."""

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from bit_transformer.errors import storage_error

PARTIAL, TRASH = ".tmp-", ".trash-"
_LEFTOVER = re.compile(r"\.(?:tmp|trash)-([0-9]{1,9})-[0-9a-f]{8}-.+", re.DOTALL)
_SHOWN_BYTES = 32
"""Of the final name, in the temporary one: a name of any length has room for it."""
_OF_THE_SYSTEM = ("/dev/", "/proc/")
"""What lies there is a door to something that is open already, even where it looks like a file."""
_PRIVATE, _USUAL = 0o600, 0o666


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside into a `StorageError` naming `path`, the reason and the remedy.

    A reader that went away is no failure of the disk, so `BrokenPipeError` passes.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by a file of this content; `StorageError` leaves the old one in place."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(
    path: Path, *, like: os.stat_result | None = None, times: bool = False
) -> Iterator[BinaryIO]:
    """A file to write and to read back that becomes `path` at the end, in one piece; after an error
    what stood there stays, and nothing else is left. Raises `StorageError` when the disk fails.

    It gets the rights and, where that is allowed, the owner of the file that `like` describes, and
    its `times` too. Nobody else can read it before.
    """
    with storage_errors(path):
        if not path.name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        partial = temporary_sibling(path)
        try:
            with _created(partial, _USUAL if like is None else _PRIVATE) as file:
                yield file
                file.flush()
                if like is not None:
                    _make_like(file.fileno(), like, times=times)
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def output_file(path: Path, *, like: os.stat_result | None = None) -> Iterator[BinaryIO]:
    """A file that a user named, to be written where the name leads.

    A device, a FIFO or a name in /dev is written into as it is. A symbolic link stays, and the file
    that it leads to is replaced. A file appears when all is written, with the rights, owner and
    times of the file that `like` describes, else with the rights of the one it replaces. Raises
    `StorageError` when the disk fails.
    """
    if is_written_into(path):
        with storage_errors(path), path.open("wb") as file:
            yield file
            file.flush()
        return
    target = Path(os.path.realpath(path)) if os.path.islink(path) else path
    as_it_was = like or _status(target)
    with storage_errors(path), atomic_file(target, like=as_it_was, times=like is not None) as file:
        yield file


def write_output(path: Path, content: bytes) -> None:
    """`output_file` with this content."""
    with output_file(path) as file:
        file.write(content)


def is_written_into(path: Path) -> bool:
    """Whether bytes for `path` go into what is there, which no file may replace."""
    found = _status(path)
    if found is None or stat.S_ISDIR(found.st_mode):
        return False
    return not stat.S_ISREG(found.st_mode) or os.path.abspath(path).startswith(_OF_THE_SYSTEM)


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
    """A free name beside `path` that tells which process it belongs to, and how the other begins.

    It is short, so that a name as long as the file system allows has such a neighbour too.
    """
    shown = path.name
    while len(os.fsencode(shown)) > _SHOWN_BYTES:
        shown = shown[:-1]
    return path.with_name(f"{prefix}{os.getpid()}-{secrets.token_hex(4)}-{shown}")


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


def _status(path: Path) -> os.stat_result | None:
    """What is there, links followed; None for nothing."""
    try:
        return path.stat()
    except OSError:
        return None


def _created(path: Path, rights: int) -> BinaryIO:
    """A new file to write and to read back; the umask takes its part of the rights."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, rights), "w+b")


def _make_like(descriptor: int, like: os.stat_result, *, times: bool) -> None:
    """Owner, rights and times of another file, as far as this user may set them."""
    rights = stat.S_IMODE(like.st_mode) & 0o777
    with suppress(OSError):
        os.fchown(descriptor, like.st_uid, -1)
    try:
        os.fchown(descriptor, -1, like.st_gid)
    except OSError:
        # Its group is another one now, which may do no more than everybody may.
        rights = rights & 0o707 | (rights & 0o007) << 3
    with suppress(OSError):
        os.fchmod(descriptor, rights)
    if times:
        with suppress(OSError):
            os.utime(descriptor, ns=(like.st_atime_ns, like.st_mtime_ns))


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
