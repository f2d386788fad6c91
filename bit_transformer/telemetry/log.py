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

    Opening one changes nothing on disk, so that it can be read while another process writes it.
    Raises `StorageError` when the file cannot be read or written, or is damaged before its end.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._rows, self._end = _whole_rows(self._path)

    def append(self, step: int, **readings: float) -> None:
        """Add the readings of one step, on disk before this returns."""
        row = {"step": step, **readings}
        line = (json.dumps(row) + "\n").encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # Rows of another writer are kept; what a crash or a full disk has cut short would
                # spoil the line after it.
                if file.tell() != self._end:
                    self._rows, self._end = _whole_rows(self._path)
                    file.truncate(self._end)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"cannot write {self._path}: {error.strerror or error}; free some space or choose "
                "another folder"
            ) from error
        self._end += len(line)
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


def _whole_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a file, and how many bytes their lines take."""
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    whole = content[: content.rfind(b"\n") + 1]
    lines = enumerate(whole.split(b"\n"), start=1)
    return [_row(path, number, line) for number, line in lines if line.strip()], len(whole)


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise StorageError(
            f"line {number} of {path} is no reading: the file is damaged or not a telemetry log; "
            "mend the line or name another file"
        )
    return row
