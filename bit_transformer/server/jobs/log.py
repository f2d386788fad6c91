"""Records that a job writes while it runs, as JSON lines, and readers that follow such a file."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from bit_transformer.atomic import storage_errors

_TAIL_BYTES = 16_384
_POLL_SECONDS = 0.2
_READ_BYTES = 1 << 16
"""Bytes that are read and sent at a time. A slow client must read them within the time limit."""
_RESTART = '{"kind": "restart"}'


class JobLog:
    """Appends records to a file that has no other writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._first: tuple[float, float] | None = None
        # Compression reports progress from two threads: one encodes, the other verifies.
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append a record; raises `StorageError` on a full disk."""
        with self._guard, storage_errors(self._path):
            self._file.write(json.dumps({"kind": kind, "time": time.time(), **fields}) + "\n")

    def progress(
        self, kind: str, done: float, total: float | None, unit: str, **fields: Any
    ) -> None:
        """Append a record with the progress of the job and an estimate of the time left."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        began, first_done = self._first
        left = None
        if total is not None and done > first_done:
            left = (now - began) / (done - first_done) * max(0.0, total - done)
        self.write(kind, done=done, total=total, unit=unit, seconds_left=left, **fields)


def last_progress(path: Path) -> dict[str, Any] | None:
    """Return the newest record with progress, or None if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        record = _record(line)
        if record is not None and "done" in record:
            return record
    return None


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


async def follow(
    path: Path, after: int, is_over: Callable[[], bool]
) -> AsyncIterator[list[tuple[int, str]]]:
    """Yield batches of (number, line) of a growing file: the lines after line `after`.

    Lines are numbered from 1. A batch is empty while there is nothing new. The iterator ends once
    `is_over` says that the writer has ended and all lines were read.

    When a run goes back to a checkpoint, its metrics file is replaced. Then the iterator yields a
    line 0 with the kind `restart`, and all lines of the new file.
    """
    number, offset, partial, inode = 0, 0, b"", None
    while True:
        # Asked before reading: what is written in between is read in the next round.
        over = is_over()
        content, now = _read_from(path, offset)
        if inode is not None and now != inode:
            number, offset, partial, inode, after = 0, 0, b"", now, 0
            yield [(0, _RESTART)]
            continue
        inode = now
        offset += len(content)
        *lines, partial = (partial + content).split(b"\n")
        batch = [(number + i, line) for i, line in enumerate(lines, 1)]
        number += len(lines)
        yield [(i, _valid_json(line)) for i, line in batch if i > after]
        if len(content) == _READ_BYTES:
            continue
        if over:
            return
        await asyncio.sleep(_POLL_SECONDS)


def count_lines(path: Path) -> int:
    """Return the number of complete lines of a file, 0 if it does not exist."""
    try:
        with path.open("rb") as file:
            return sum(part.count(b"\n") for part in iter(lambda: file.read(_READ_BYTES), b""))
    except FileNotFoundError:
        return 0


def _read_from(path: Path, offset: int) -> tuple[bytes, int | None]:
    """Return the next bytes of a file and its inode, or nothing if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_READ_BYTES), os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return b"", None


def _valid_json(line: bytes) -> str:
    """Return the line with null for NaN and infinity, which browsers cannot parse."""
    text = line.decode(errors="replace")
    if "NaN" not in text and "Infinity" not in text:
        return text
    return json.dumps(json.loads(text, parse_constant=lambda _: None))
