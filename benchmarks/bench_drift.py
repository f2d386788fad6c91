"""Measure how often drift alarms are false, and how soon they find a shift.

    python benchmarks/bench_drift.py

The streams are stationary and Gaussian, independent or with a serial correlation of 0.5. The
average run length to a false alarm is the number of values after the baseline, divided by the
number of alarms. Delays are measured with a nominal run length of 1,000 on independent values, over
the streams without an alarm before the shift. A shift that is not found within 1,000 values counts
as 1,000. Shifts come right after the baseline or 500 values later.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from report import write_result

from bit_transformer.telemetry.drift import DriftDetector

BASELINE, HORIZON, RUN_LENGTHS, CORRELATIONS = 200, 5, (500, 1000), (0.0, 0.5)
SHIFTS, OFFSETS, MAX_DELAY = (0.5, 1.0, 2.0), (1, 500), 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(arguments.seed)
    rows: list[list[object]] = []
    for expected in RUN_LENGTHS:
        for correlation in CORRELATIONS:
            found, alarms = _run_length(rng, expected, correlation, arguments.streams)
            name = f"average run length, serial correlation {correlation}"
            rows.append([name, expected, found, found / expected, alarms, None])
    for offset in OFFSETS:
        for shift in SHIFTS:
            delays = _delays(rng, shift, offset, arguments.streams)
            name = f"delay, {shift} sigma, {offset} values after the baseline"
            share = float(np.mean(delays < 100))
            rows.append([name, None, float(np.median(delays)), None, len(delays), share])
    write_result(
        "drift",
        summary="Average run length to a false alarm, nominal and measured. The shift is found "
        "after the median number of values.",
        columns=["what", "nominal", "measured", "ratio", "alarms or streams", "found within 100"],
        rows=rows,
        details={"streams": arguments.streams, "seed": arguments.seed, "baseline": BASELINE},
    )


def _run_length(
    rng: np.random.Generator, expected: int, correlation: float, streams: int
) -> tuple[float, int]:
    """Values after a baseline per alarm, and the number of alarms."""
    monitored = alarms = 0
    for _ in range(streams):
        detector, learning = DriftDetector(expected), BASELINE
        for value in _stream(rng, BASELINE + HORIZON * expected, correlation):
            monitored += learning == 0
            learning = max(0, learning - 1)
            if detector.update(value):
                alarms, learning = alarms + 1, BASELINE
    return monitored / max(alarms, 1), alarms


def _delays(rng: np.random.Generator, shift: float, offset: int, streams: int) -> np.ndarray:
    """Values until the alarm, at least 1, in the streams without an alarm before the shift."""
    begins, found = BASELINE + offset - 1, []
    for _ in range(streams):
        values, detector = _stream(rng, begins + MAX_DELAY, 0.0), DriftDetector(RUN_LENGTHS[-1])
        shifted = (value + shift * (at >= begins) for at, value in enumerate(values))
        alarm = next((at for at, v in enumerate(shifted) if detector.update(v)), None)
        if alarm is None or alarm >= begins:
            found.append(MAX_DELAY if alarm is None else alarm - begins + 1)
    return np.array(found)


def _stream(rng: np.random.Generator, length: int, correlation: float) -> Iterator[float]:
    value = rng.standard_normal()
    fresh = np.sqrt(1 - correlation**2)
    for noise in rng.standard_normal(length):
        value = correlation * value + fresh * noise
        yield float(value)


if __name__ == "__main__":
    main()
