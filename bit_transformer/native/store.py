"""A cache on disk for later processes: machine code, and results of checks of this machine.

The files lie beside the package, or in the user's cache folder where that cannot be written. A
file is named by a digest of everything its content depends on, so it is never stale. It holds a
checksum, and is written under another name and then renamed, so that processes may write at the
same time.
"""

import hashlib
import os
import time
from pathlib import Path

from platformdirs import user_cache_path

from bit_transformer.atomic import PARTIAL, atomic_write_bytes
from bit_transformer.errors import StorageError

_SUFFIX = ".native"
_DIGEST_BYTES = 16
_MAX_VERSIONS = 12
"""Files of one name that are kept; they belong to other versions or processors."""
_MAX_PARTIAL_SECONDS = 3600
"""Age from which an unfinished file is taken for one of a killed process."""


def folders() -> list[Path]:
    """Return the folders that are searched; files are written to the first that is writable."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    found = [Path(chosen) / "bit_transformer"] if chosen else []
    found.append(Path(__file__).parents[1] / "__pycache__" / "native")
    found.append(user_cache_path("bit-transformer", appauthor=False) / "native")
    # Without a home directory, a path may begin with "~".
    return [folder for folder in found if folder.is_absolute()]


def load(name: str, key: bytes) -> bytes | None:
    """Return the content saved under a name and a key, or None if it is missing or damaged."""
    for folder in folders():
        try:
            content = (folder / _file_name(name, key)).read_bytes()
        except OSError:
            continue
        if content[:_DIGEST_BYTES] == _checksum(key, content[_DIGEST_BYTES:]):
            return content[_DIGEST_BYTES:]
    return None


def keep(name: str, key: bytes, content: bytes) -> bool:
    """Save content for later processes. Return False if no folder is writable."""
    for folder in folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(folder / _file_name(name, key), _checksum(key, content) + content)
        except (OSError, StorageError):
            continue
        _remove_old(folder, name)
        return True
    return False


def _file_name(name: str, key: bytes) -> str:
    return f"{name}-{hashlib.blake2b(key, digest_size=12).hexdigest()}{_SUFFIX}"


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST_BYTES).digest()


def _remove_old(folder: Path, name: str) -> None:
    """Remove the oldest versions of a file and the unfinished files of killed processes."""
    try:
        versions = sorted(folder.glob(f"{name}-*{_SUFFIX}"), key=lambda path: -path.stat().st_mtime)
        too_old = time.time() - _MAX_PARTIAL_SECONDS
        partial = [p for p in folder.glob(f"{PARTIAL}*") if p.stat().st_mtime < too_old]
        for path in versions[_MAX_VERSIONS:] + partial:
            path.unlink(missing_ok=True)
    except OSError:
        # Another process removed a file first, or nothing may be removed here.
        return
