"""Do drift alarms come as rarely as they were asked to, and how soon is a shift found?

    python benchmarks/bench_drift.py

Stationary Gaussian streams, independent and with a serial correlation of 0.5. The measured interval
is all readings after a baseline over all alarms. Delays are those of an expected interval of 1,000
on independent readings, over the streams that raised no alarm before the shift; a shift that is not
found within 1,000 readings counts as that. Shifts come right after the baseline or 500 readings on.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from report import write_result

from bit_transformer.telemetry.drift import DriftDetector

BASELINE, HORIZON, INTERVALS, CORRELATIONS = 200, 5, (500, 1000), (0.0, 0.5)
SHIFTS, PLACES, LONGEST = (0.5, 1.0, 2.0), (1, 500), 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    rows: list[list[object]] = []
    for expected in INTERVALS:
        for correlation in CORRELATIONS:
            found, alarms = _interval(rng, expected, correlation, arguments.streams)
            name = f"interval, serial correlation {correlation}"
            rows.append([name, expected, found, found / expected, alarms, None])
    for place in PLACES:
        for shift in SHIFTS:
            delays = _delays(rng, shift, place, arguments.streams)
            name = f"delay, {shift} sigma, {place} readings after the baseline"
            share = float(np.mean(delays < 100))
            rows.append([name, None, float(np.median(delays)), None, len(delays), share])
    write_result(
        "drift",
        summary="Readings between false alarms, asked for and measured; median readings until a "
        "shift is found.",
        columns=["what", "nominal", "measured", "ratio", "alarms or streams", "found within 100"],
        rows=rows,
        details={"streams": arguments.streams, "seed": arguments.seed, "baseline": BASELINE},
    )


def _interval(
    rng: np.random.Generator, expected: int, correlation: float, streams: int
) -> tuple[float, int]:
    """Readings after a baseline for each alarm, and the number of alarms."""
    monitored = alarms = 0
    for _ in range(streams):
        detector, learning = DriftDetector(expected), BASELINE
        for value in _stream(rng, BASELINE + HORIZON * expected, correlation):
            monitored += learning == 0
            learning = max(0, learning - 1)
            if detector.update(value):
                alarms, learning = alarms + 1, BASELINE
    return monitored / max(alarms, 1), alarms


def _delays(rng: np.random.Generator, shift: float, place: int, streams: int) -> np.ndarray:
    """Readings until the alarm, from 1 on, of the streams without an alarm before the shift."""
    begins, found = BASELINE + place - 1, []
    for _ in range(streams):
        values, detector = _stream(rng, begins + LONGEST, 0.0), DriftDetector(INTERVALS[-1])
        shifted = (value + shift * (at >= begins) for at, value in enumerate(values))
        alarm = next((at for at, v in enumerate(shifted) if detector.update(v)), None)
        if alarm is None or alarm >= begins:
            found.append(LONGEST if alarm is None else alarm - begins + 1)
    return np.array(found)


def _stream(rng: np.random.Generator, length: int, correlation: float) -> Iterator[float]:
    value = rng.standard_normal()
    fresh = np.sqrt(1 - correlation**2)
    for noise in rng.standard_normal(length):
        value = correlation * value + fresh * noise
        yield float(value)


if __name__ == "__main__":
    main()
