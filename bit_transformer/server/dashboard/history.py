"""What is known of a training: its records by step, and as lines of a chart. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_POINTS = 500
"""Per line; a browser draws no more of them smoothly several times a second."""
Point = tuple[float, float]


@dataclass
class History:
    """Records of one run, in whatever order and however often they come."""

    loss: dict[int, float] = field(default_factory=dict)
    bits_per_byte: dict[int, float] = field(default_factory=dict)
    """Held-out."""
    readings: dict[str, dict[int, float]] = field(default_factory=dict)
    samples: dict[int, str] = field(default_factory=dict)
    drifts: dict[str, dict[int, float]] = field(default_factory=dict)
    """Alarms by reading."""
    speed: float | None = None
    """Bytes of data a second, over the newest steps."""
    version: int = 0
    """Grows with every change."""
    _clock: list[tuple[int, float]] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record of `metrics.jsonl` or of a job in."""
        taker = getattr(self, f"_add_{record.get('kind')}", None)
        if taker is not None:
            taker(record)
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
            _put(self.readings.setdefault(name, {}), record["step"], value)

    def _add_sample(self, record: Mapping[str, Any]) -> None:
        if record["text"]:
            self.samples[record["step"]] = record["text"]

    def _add_drift(self, record: Mapping[str, Any]) -> None:
        _put(self.drifts.setdefault(record["reading"], {}), record["step"], record["value"])

    def _add_recovery(self, record: Mapping[str, Any]) -> None:
        """What came after the step that the run went back to is not of this run any more."""
        lines: list[dict[int, Any]] = [self.loss, self.bits_per_byte, self.samples]
        for line in [*lines, *self.readings.values(), *self.drifts.values()]:
            for step in [step for step in line if step > record["step"]]:
                del line[step]


def _put(line: dict[int, float], step: int, value: float | None) -> None:
    if value is not None and math.isfinite(value):
        line[step] = value


def points(line: Mapping[int, float]) -> list[Point]:
    """A line in the order of its steps, thinned out, four digits each."""
    return [(step, float(f"{value:.4g}")) for step, value in thinned(sorted(line.items()))]


def thinned(line: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most so many points that look the same: ends, and lowest and highest of each stretch."""
    if len(line) <= most:
        return list(line)
    inner, stretches = line[1:-1], (most - 2) // 2
    kept = [line[0]]
    for i in range(stretches):
        part = inner[len(inner) * i // stretches : len(inner) * (i + 1) // stretches]
        lowest, highest = min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])
        kept += sorted({lowest, highest})
    return [*kept, line[-1]]


def latest(line: Mapping[int, float]) -> float | None:
    """The newest value."""
    return line[max(line)] if line else None
