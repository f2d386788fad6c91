"""Learning-rate factors as pure functions of the step, so that resuming needs no scheduler state.

Schedules count optimizer steps and not micro-batches, so accumulation does not change them.
"""

from collections.abc import Callable
from typing import Literal

from bit_transformer.ramp import cosine_ramp

Schedule = Callable[[int], float]
"""Learning-rate factor for the step with this index, 0 for the first."""

ScheduleName = Literal["wsd", "onecycle", "constant"]


def warmup_stable_decay(total: int, warmup: float, decay: float) -> Schedule:
    """A linear rise over the first share of the steps, then 1, then a linear fall to 0 over the
    last share (Hu et al. 2024, arXiv:2404.06395)."""
    rise, fall = max(1, round(total * warmup)), max(1, round(total * decay))

    def factor(step: int) -> float:
        return max(0.0, min(1.0, (step + 1) / rise, (total - step) / fall))

    return factor


def one_cycle(total: int, warmup: float, start: float = 0.04, end: float = 1e-4) -> Schedule:
    """A cosine rise from `start` to 1 over the first share of the steps, then a cosine fall to
    `end` (Smith & Topin 2018, arXiv:1708.07120). Steps past the end keep the last factor."""
    peak, last = max(1, round(total * warmup)), max(1, total - 1)

    def factor(step: int) -> float:
        if step < peak:
            return cosine_ramp(step, start, 1.0, peak)
        return cosine_ramp(step - peak, 1.0, end, max(1, last - peak))

    return factor


def make_schedule(name: ScheduleName, total: int, warmup: float, decay: float) -> Schedule:
    """The named schedule over `total` optimizer steps."""
    if name == "wsd":
        return warmup_stable_decay(total, warmup, decay)
    if name == "onecycle":
        return one_cycle(total, warmup)
    return lambda step: 1.0
