"""Readings on disk, a JSON line each."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.errors import StorageError


class TelemetryLog:
    """An append-only file of readings by step; a line cut short by a crash is as if never written.

    Raises `StorageError` when the file cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._rows, whole = _whole_rows(self._path)
        if whole is not None:
            _truncate(self._path, whole)

    def append(self, step: int, **readings: float) -> None:
        """Add the readings of one step, on disk before this returns."""
        row = {"step": step, **readings}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}") from error
        self._rows.append(row)

    def columns(self) -> dict[str, Float[np.ndarray, " n"]]:
        """`step` and every reading as one array each, NaN where a step does not have it."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        return {
            name: np.array([row.get(name, np.nan) for row in self._rows], dtype=np.float64)
            for name in names
        }

    def __len__(self) -> int:
        return len(self._rows)


def _whole_rows(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    """The rows of a file, and where the last whole one ends if more follows it."""
    if not path.exists():
        return [], None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    rows, end = [], 0
    for line in content.splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(row, dict):
            break
        rows.append(row)
        end += len(line)
    return rows, None if end == len(content) else end


def _truncate(path: Path, size: int) -> None:
    try:
        os.truncate(path, size)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
