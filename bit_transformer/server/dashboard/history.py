"""Records of a training run, by step and as lines of a chart. Does no I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_POINTS = 500
"""Points per line. Browsers cannot redraw more of them smoothly several times a second."""
Point = tuple[float, float]


@dataclass
class History:
    """Records of one run. They may arrive in any order and more than once."""

    loss: dict[int, float] = field(default_factory=dict)
    bits_per_byte: dict[int, float] = field(default_factory=dict)
    """Bits per byte on held-out data, by step."""
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    """By metric and step."""
    samples: dict[int, str] = field(default_factory=dict)
    drifts: dict[str, dict[int, float]] = field(default_factory=dict)
    """Values that raised a drift alarm, by metric and step."""
    speed: float | None = None
    """Bytes of training data per second, over the newest 20 steps."""
    version: int = 0
    """Increases with every change."""
    _clock: list[tuple[int, float]] = field(default_factory=list)
    """(data bytes, seconds) of the newest steps."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record of `metrics.jsonl` or of a job. Unknown kinds are ignored."""
        add = getattr(self, f"_add_{record.get('kind')}", None)
        if add is not None:
            add(record)
            self.version += 1

    def _add_step(self, record: Mapping[str, Any]) -> None:
        _put(self.loss, record["step"], record["loss"])
        self._clock = [*self._clock[-20:], (record["data_bytes"], record["seconds"])]
        (bytes_then, then), (bytes_now, now) = self._clock[0], self._clock[-1]
        if now > then:
            self.speed = (bytes_now - bytes_then) / (now - then)

    def _add_evaluation(self, record: Mapping[str, Any]) -> None:
        _put(self.bits_per_byte, record["step"], record["bits_per_byte"])

    def _add_telemetry(self, record: Mapping[str, Any]) -> None:
        for name, value in record["readings"].items():
            _put(self.metrics.setdefault(name, {}), record["step"], value)

    def _add_sample(self, record: Mapping[str, Any]) -> None:
        if record["text"]:
            self.samples[record["step"]] = record["text"]

    def _add_drift(self, record: Mapping[str, Any]) -> None:
        _put(self.drifts.setdefault(record["reading"], {}), record["step"], record["value"])

    def _add_recovery(self, record: Mapping[str, Any]) -> None:
        """Drop what came after the checkpoint that the run was restored from."""
        lines: list[dict[int, Any]] = [self.loss, self.bits_per_byte, self.samples]
        for line in [*lines, *self.metrics.values(), *self.drifts.values()]:
            for step in [step for step in line if step > record["step"]]:
                del line[step]


def _put(line: dict[int, float], step: int, value: float | None) -> None:
    if value is not None and math.isfinite(value):
        line[step] = value


def points(line: Mapping[int, float]) -> list[Point]:
    """Return a line as points, sorted by step, thinned out and rounded to four digits."""
    return [(step, float(f"{value:.4g}")) for step, value in thinned(sorted(line.items()))]


def thinned(line: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """Keep at most `limit` points: both ends, and the lowest and highest point of each stretch."""
    if len(line) <= limit:
        return list(line)
    inner, stretches = line[1:-1], (limit - 2) // 2
    kept = [line[0]]
    for i in range(stretches):
        part = inner[len(inner) * i // stretches : len(inner) * (i + 1) // stretches]
        lowest, highest = min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])
        kept += sorted({lowest, highest})
    return [*kept, line[-1]]


def latest(line: Mapping[int, float]) -> float | None:
    """Return the newest value of a line; None if it is empty."""
    return line[max(line)] if line else None
