"""One writer a folder: a lock that the system drops with its holder, and that says who holds it.

The lock is an `flock` on the file `.lock` in the folder. A process that was killed holds none, so a
file that it has left behind is harmless. The file holds, as JSON, who writes, where and since when.
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

from bit_transformer.checkpoint.atomic import storage_errors
from bit_transformer.errors import BusyError

LOCK = ".lock"
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
_PATIENCE = 0.2
"""Seconds to wait for a holder that is just ending."""
_SECRET = re.compile(r"(--[\w-]*(?:token|password|secret)[\w-]*)(=.*)?")
_LONGEST_COMMAND = 300

_log = logging.getLogger(__name__)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Be the only one who writes in `folder`, which is made where there is none.

    The thread that holds the lock may enter again. A folder that was made here and that nothing was
    written into goes away again. Where the file system knows no locks, a warning says so.

    Raises `BusyError`, which says who writes, where and since when, and `StorageError`.
    """
    made = not folder.exists()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    # A singleton: the same thread may take the lock again, other threads are other writers.
    lock = FileLock(path, timeout=_PATIENCE, is_singleton=True, fallback_to_soft=False)
    outermost = not lock.is_locked
    try:
        with storage_errors(folder):
            held = _acquire(lock, folder)
        if held and outermost:
            _sign(path)
        yield
    finally:
        # Removed while it is held: whoever has opened the old file meanwhile sees that it is gone.
        if outermost and lock.is_locked:
            path.unlink(missing_ok=True)
        if lock.is_locked:
            lock.release()
        if outermost and made:
            with suppress(OSError):
                folder.rmdir()


def writer_of(folder: Path) -> BusyError | None:
    """What `sole_writer` would raise now, as somebody writes in `folder`; None while nobody does.

    The lock is tried and let go in the same moment, so nobody who wants it waits for this.
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
            "%s lies on a file system without locks: see to it yourself that nobody else writes "
            "there",
            folder,
        )
        (folder / LOCK).unlink(missing_ok=True)
        return False
    return True


def _sign(path: Path) -> None:
    """Write down who holds the lock; without room on the disk it holds without a name."""
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
    return shlex.join(shown)[:_LONGEST_COMMAND]


def _busy(folder: Path) -> BusyError:
    try:
        owner = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        process, host = f"process {owner['process']}", str(owner["host"])
        since, command = owner["since"], owner["command"]
    except (OSError, ValueError, LookupError, TypeError):
        return BusyError(
            f"another process writes in {folder}; wait until it has ended, or name another folder",
            owner="another process",
        )
    where = f"on {host}" if host == socket.gethostname() else f"on {host}, another machine,"
    return BusyError(
        f"{folder} is being written by {process} {where} since {since} ({command}); wait until it "
        "has ended, stop it, or name another folder",
        owner=f"{process} on {host}",
    )
