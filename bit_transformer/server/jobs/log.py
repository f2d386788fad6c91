"""What a job tells while it runs: JSON lines, each with the time and, where known, the progress."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from bit_transformer.checkpoint.atomic import storage_errors

_TAIL_BYTES = 16_384
_EVERY = 0.2
"""Seconds between looks at a file that is being followed."""
_AT_ONCE = 1 << 16
"""Bytes read at a time, and sent: a slow reader has to get through them."""
_RESTART = '{"kind": "restart"}'


class JobLog:
    """Appends records; one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._first: tuple[float, float] | None = None
        # Encoding and verifying, say, tell from threads of their own.
        self._guard = threading.Lock()

    def close(self) -> None:
        """Nothing more is to come."""
        self._file.close()

    def write(self, kind: str, **fields: Any) -> None:
        """One line; raises `StorageError` on a full disk."""
        with self._guard, storage_errors(self._path):
            self._file.write(json.dumps({"kind": kind, "time": time.time(), **fields}) + "\n")

    def progress(
        self, kind: str, done: float, total: float | None, unit: str, **fields: Any
    ) -> None:
        """One line that also says how far the job is and how long the rest will take."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        began, was = self._first
        left = None
        if total is not None and done > was:
            left = (now - began) / (done - was) * max(0.0, total - done)
        self.write(kind, done=done, total=total, unit=unit, seconds_left=left, **fields)


def last_progress(path: Path) -> dict[str, Any] | None:
    """The newest record that says how far a job is."""
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
    """The lines after line `after` of a file that grows, numbered from 1, in batches, until its
    writer is over and all was read; an empty batch now and then while nothing comes.

    A file that was replaced, as the metrics of a run are when it goes back to a checkpoint, is told
    from its beginning, after a line 0 that says `restart`.
    """
    number, place, held, was = 0, 0, b"", None
    while True:
        over = is_over()
        content, now = _read_from(path, place)
        if was is not None and now != was:
            number, place, held, was, after = 0, 0, b"", now, 0
            yield [(0, _RESTART)]
            continue
        was = now
        place += len(content)
        *lines, held = (held + content).split(b"\n")
        batch = [(number + i, line) for i, line in enumerate(lines, 1)]
        number += len(lines)
        yield [(i, _valid_json(line)) for i, line in batch if i > after]
        if len(content) == _AT_ONCE:
            continue
        if over:
            return
        await asyncio.sleep(_EVERY)


def count_lines(path: Path) -> int:
    """Whole lines of a file; 0 while there is none."""
    try:
        with path.open("rb") as file:
            return sum(part.count(b"\n") for part in iter(lambda: file.read(_AT_ONCE), b""))
    except FileNotFoundError:
        return 0


def _read_from(path: Path, place: int) -> tuple[bytes, int | None]:
    """What comes next in a file, and which file that is; nothing while there is none."""
    try:
        with path.open("rb") as file:
            file.seek(place)
            return file.read(_AT_ONCE), os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return b"", None


def _valid_json(line: bytes) -> str:
    """The line, with null for what is no number: browsers read no NaN."""
    text = line.decode(errors="replace")
    if "NaN" not in text and "Infinity" not in text:
        return text
    return json.dumps(json.loads(text, parse_constant=lambda _: None))
