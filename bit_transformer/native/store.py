"""Small files for the next process: machine code, and what was found out of this machine.

They lie beside the package, or, where that cannot be written, in the user's folder for caches.
Each has a checksum, takes its place in one piece, and is named by a digest of all that its content
depends on, so that nothing of it can be stale and processes that write at once do not meet.
"""

import hashlib
import os
import secrets
import time
from pathlib import Path

from platformdirs import user_cache_path

_SUFFIX, _PARTIAL = ".native", ".tmp-"
_DIGEST_BYTES = 16
_KEPT = 12
"""Files of one name, of other versions or processors."""
_LEFT_OVER_SECONDS = 3600


def folders() -> list[Path]:
    """Where files are looked for, and kept where the first of them can be written."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    found = [Path(chosen) / "bit_transformer"] if chosen else []
    found.append(Path(__file__).parents[1] / "__pycache__" / "native")
    found.append(user_cache_path("bit-transformer", appauthor=False) / "native")
    # Without a home, a path may begin with "~".
    return [folder for folder in found if folder.is_absolute()]


def load(name: str, key: bytes) -> bytes | None:
    """What was kept under a name and a key; None when there is nothing, or it is damaged."""
    for folder in folders():
        try:
            content = (folder / _file_name(name, key)).read_bytes()
        except OSError:
            continue
        if content[:_DIGEST_BYTES] == _checksum(key, content[_DIGEST_BYTES:]):
            return content[_DIGEST_BYTES:]
    return None


def keep(name: str, key: bytes, content: bytes) -> bool:
    """Keep something for the next process; whether there was a folder to keep it in."""
    for folder in folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / _file_name(name, key), _checksum(key, content) + content)
        except OSError:
            continue
        _remove_old(folder, name)
        return True
    return False


def _file_name(name: str, key: bytes) -> str:
    return f"{name}-{hashlib.blake2b(key, digest_size=12).hexdigest()}{_SUFFIX}"


def _checksum(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST_BYTES).digest()


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            file.write(content)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_old(folder: Path, name: str) -> None:
    """Versions that were kept longest ago, and what killed processes have left."""
    try:
        versions = sorted(folder.glob(f"{name}-*{_SUFFIX}"), key=lambda path: -path.stat().st_mtime)
        long_ago = time.time() - _LEFT_OVER_SECONDS
        partial = [p for p in folder.glob(f"{_PARTIAL}*") if p.stat().st_mtime < long_ago]
        for path in versions[_KEPT:] + partial:
            path.unlink(missing_ok=True)
    except OSError:
        # Another process was faster, or nothing may be removed here.
        return
