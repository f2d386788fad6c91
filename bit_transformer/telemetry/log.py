"""A telemetry log on disk: one JSON object per line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bit_transformer.errors import StorageError, storage_error


class TelemetryLog:
    """An append-only file of metrics by step. A last line cut short by a crash is ignored.

    Opening a log does not change the file, so another process may be writing it.
    Raises `StorageError` when the file cannot be read or written, or is damaged before its end.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._rows, self._end = _complete_rows(self._path)

    def append(self, step: int, **metrics: float) -> None:
        """Add the metrics of one step. They are on disk when this returns."""
        row = {"step": step, **metrics}
        line = (json.dumps(row) + "\n").encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # The file may hold rows of another writer, which stay, or an incomplete last line,
                # which goes: appended to it, the new line would be lost too.
                if file.tell() != self._end:
                    self._rows, self._end = _complete_rows(self._path)
                    file.truncate(self._end)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._end += len(line)
        self._rows.append(row)

    def columns(self) -> dict[str, Float[np.ndarray, " n"]]:
        """Return `step` and every metric as one array each, NaN where a step lacks the metric."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        return {
            name: np.array([row.get(name, np.nan) for row in self._rows], dtype=np.float64)
            for name in names
        }

    def __len__(self) -> int:
        return len(self._rows)


def _complete_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a file and the number of bytes that their lines take."""
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    complete = content[: content.rfind(b"\n") + 1]
    lines = enumerate(complete.split(b"\n"), start=1)
    return [_row(path, number, line) for number, line in lines if line.strip()], len(complete)


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise StorageError(
            f"line {number} of {path} is not a JSON object: the file is damaged or not a telemetry "
            "log; repair the line or choose another file"
        )
    return row
