"""A lock that lets only one process write in a folder, and names that process to others.

The lock is an `flock` on the file `.lock` in the folder. The system releases it when its process
ends, so the file of a killed process is harmless. The file names the process, its host, its command
and its start as JSON.
"""

import errno
import fcntl
import json
import logging
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from bit_transformer.atomic import storage_errors
from bit_transformer.errors import BusyError

LOCK = ".lock"
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
_TIMEOUT = 0.2
"""Seconds to wait for a process that is about to end."""
_SECRET = re.compile(r"(--[\w-]*(?:token|password|secret)[\w-]*)(=.*)?")
_MAX_COMMAND = 300

_log = logging.getLogger(__name__)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Context that holds the lock of `folder`, which is created if it is missing.

    The thread that holds the lock may enter again. If this creates the folder and nothing is
    written into it, it is removed at the end. On a file system without locks, a warning is logged
    and nothing is locked.

    Raises `BusyError`, which names the present writer, its host and its start, and `StorageError`.
    """
    created = not folder.exists()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    # A singleton lets the same thread take the lock again. Other threads count as other writers.
    lock = FileLock(path, timeout=_TIMEOUT, is_singleton=True, fallback_to_soft=False)
    outermost = not lock.is_locked
    try:
        with storage_errors(folder):
            held = _acquire(lock, folder)
        if held and outermost:
            _sign(path)
        yield
    finally:
        # The file is removed before the release. A process that has already opened it then locks
        # a deleted file, notices that, and opens the new one.
        if outermost and lock.is_locked:
            path.unlink(missing_ok=True)
        if lock.is_locked:
            lock.release()
        if outermost and created:
            with suppress(OSError):
                folder.rmdir()


def writer_of(folder: Path) -> BusyError | None:
    """The error that `sole_writer` would raise now, or None if no process writes in `folder`.

    The lock is taken and released at once, so this does not delay other processes.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _busy(folder)
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(descriptor)


def _acquire(lock: FileLock, folder: Path) -> bool:
    try:
        lock.acquire()
    except Timeout as error:
        raise _busy(folder) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning(
            "%s is on a file system without locks: make sure that no other process writes there",
            folder,
        )
        (folder / LOCK).unlink(missing_ok=True)
        return False
    return True


def _sign(path: Path) -> None:
    """Write the owner into the lock file. On a full disk the lock holds without a name."""
    owner = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": _command(sys.argv),
    }
    with suppress(OSError):
        path.write_text(json.dumps(owner) + "\n", encoding="utf-8")


def _command(words: Sequence[str]) -> str:
    """The command line without its secrets."""
    shown, hidden = [Path(words[0]).name if words else "?"], False
    for word in words[1:]:
        secret = _SECRET.fullmatch(word)
        if hidden:
            shown.append("***")
        elif secret is not None and secret[2]:
            shown.append(f"{secret[1]}=***")
        else:
            shown.append(word)
        hidden = not hidden and secret is not None and not secret[2]
    return shlex.join(shown)[:_MAX_COMMAND]


def _busy(folder: Path) -> BusyError:
    try:
        owner = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        process, host = f"process {owner['process']}", str(owner["host"])
        since, command = owner["since"], owner["command"]
    except (OSError, ValueError, LookupError, TypeError):
        return BusyError(
            f"another process writes in {folder}; wait for its end, or name another folder",
            owner="another process",
        )
    where = f"on {host}" if host == socket.gethostname() else f"on {host}, another machine,"
    return BusyError(
        f"{folder} is being written by {process} {where} since {since} ({command}); wait for its "
        "end, stop it, or name another folder",
        owner=f"{process} on {host}",
    )
