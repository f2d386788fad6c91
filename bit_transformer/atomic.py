"""Atomic writes: after a crash at any moment, a file is either the old or the new one."""

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
"""Bytes of the final name in a temporary name, so that it stays short for a name of any length."""
_SYSTEM_FOLDERS = ("/dev/", "/proc/")
"""Paths here may look like regular files, but lead to open files such as standard output."""
_PRIVATE_MODE, _DEFAULT_MODE = 0o600, 0o666


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Context that turns an `OSError` into a `StorageError` with path, reason and remedy.

    `BrokenPipeError` passes, because a closed pipe is not a failure of the disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by a file with this content. After a `StorageError` the old file is intact."""
    with atomic_file(path) as file:
        file.write(content)


@contextmanager
def atomic_file(
    path: Path, *, like: os.stat_result | None = None, times: bool = False
) -> Iterator[BinaryIO]:
    """Context with a new file, open for writing and reading, that replaces `path` at the end.

    After an error the old file is intact and the new one is removed. With `like`, the new file gets
    the mode and, where the system allows it, the owner of that file; with `times`, its times too.
    Until then other users cannot read it. Raises `StorageError` when the disk fails.
    """
    with storage_errors(path):
        if not path.name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        partial = temporary_sibling(path)
        try:
            with _create(partial, _DEFAULT_MODE if like is None else _PRIVATE_MODE) as file:
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
    """Context with a file for the output path that a user gave.

    Devices, FIFOs and paths in /dev are opened directly. A symbolic link stays, and its target is
    replaced. A regular file is replaced atomically. It gets the mode, owner and times of `like`;
    without `like`, the mode and owner of the file that it replaces. Raises `StorageError` when the
    disk fails.
    """
    if is_written_into(path):
        with storage_errors(path), path.open("wb") as file:
            yield file
            file.flush()
        return
    target = Path(os.path.realpath(path)) if os.path.islink(path) else path
    model = like or _status(target)
    with storage_errors(path), atomic_file(target, like=model, times=like is not None) as file:
        yield file


def write_output(path: Path, content: bytes) -> None:
    """Write this content through `output_file`."""
    with output_file(path) as file:
        file.write(content)


def is_written_into(path: Path) -> bool:
    """Whether `path` must be opened directly, because it is a device, a FIFO or a system path."""
    found = _status(path)
    if found is None or stat.S_ISDIR(found.st_mode):
        return False
    return not stat.S_ISREG(found.st_mode) or os.path.abspath(path).startswith(_SYSTEM_FOLDERS)


def atomic_write_text(path: Path, content: str) -> None:
    """Replace `path` by a file with this text in UTF-8, see `atomic_write_bytes`."""
    atomic_write_bytes(path, content.encode())


def atomic_write_json(path: Path, content: Any) -> None:
    """Replace `path` by a file with this content as indented JSON, see `atomic_write_bytes`."""
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on disk. Raises `OSError`."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_sibling(path: Path, prefix: str = PARTIAL) -> Path:
    """An unused path beside `path`. Its name has the process id and the beginning of the old name.

    The name is short, so that it is valid even beside the longest name that a file system allows.
    """
    shown = path.name
    while len(os.fsencode(shown)) > _SHOWN_BYTES:
        shown = shown[:-1]
    return path.with_name(f"{prefix}{os.getpid()}-{secrets.token_hex(4)}-{shown}")


def leftovers(folder: Path) -> list[Path]:
    """Temporary siblings in `folder` that a killed process has left.

    Files with the id of this process count too: after a restart, a container reuses the ids of
    killed processes. So call this only before writing, and while holding the folder's lock.
    """
    found = ((path, _LEFTOVER.fullmatch(path.name)) for path in sorted(folder.glob(".*")))
    return [path for path, match in found if match and not _is_other_process(int(match[1]))]


def remove_tree(path: Path) -> None:
    """Remove a file or a folder. Errors inside a folder are ignored; `leftovers` finds the rest."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _status(path: Path) -> os.stat_result | None:
    """The status of the file that `path` leads to. None when there is no such file."""
    try:
        return path.stat()
    except OSError:
        return None


def _create(path: Path, mode: int) -> BinaryIO:
    """Create a file with this mode, minus the umask, and open it for writing and reading."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, mode), "w+b")


def _make_like(descriptor: int, like: os.stat_result, *, times: bool) -> None:
    """Copy owner, mode and times of another file, as far as this user is allowed to."""
    mode = stat.S_IMODE(like.st_mode) & 0o777
    with suppress(OSError):
        os.fchown(descriptor, like.st_uid, -1)
    try:
        os.fchown(descriptor, -1, like.st_gid)
    except OSError:
        # The file keeps another group, which must not get more rights than everybody has.
        mode = mode & 0o707 | (mode & 0o007) << 3
    with suppress(OSError):
        os.fchmod(descriptor, mode)
    if times:
        with suppress(OSError):
            os.utime(descriptor, ns=(like.st_atime_ns, like.st_mtime_ns))


def _is_other_process(pid: int) -> bool:
    """Whether a process other than this one has this id."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
