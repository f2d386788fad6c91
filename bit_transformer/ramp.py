"""A smooth ramp, from which schedules are made."""

import math

from bit_transformer.errors import ConfigError


def cosine_ramp(step: float, start: float, end: float, total_steps: int) -> float:
    """Half a cosine from `start` at step 0 to `end` at `total_steps`, constant outside."""
    if total_steps < 1:
        raise ConfigError(f"total_steps must be at least 1, got {total_steps}")
    progress = min(max(step / total_steps, 0.0), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
