"""Rules that detect a run that goes bad. They work on plain numbers, without a network or a file.

A rule returns the fault as text, or None. It compares a value with the median of recent healthy
values and measures the distance in their median absolute deviation (Hampel 1974).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

UNTRAINED_BITS_PER_BYTE = 8.0
"""Cost under an untrained model, which gives every byte value the same probability."""
_WINDOW = 32
"""Healthy values that are kept."""
_MIN_VALUES = 8
"""With fewer healthy values, their median is not used."""
_SPIKE_MARGIN = 1.0
"""Bits per byte above the median up to which a loss is never a spike."""
_EARLY_MARGIN = 2.0
"""A loss this many bits per byte above the lowest of the first losses is a spike."""
_DEVIATIONS = 8.0
"""A loss this many standard deviations above the median is a spike."""
_SIGMA_PER_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
_SUSTAINED = 16
"""Losses in a row whose median is a level."""
_MAX_DRIFT = 0.4
"""Bits per byte by which the level may rise above its lowest value."""
_MAX_ACTIVATION_GROWTH = 30.0
_MIN_SPREAD = 1e-3
_MIN_SAMPLES = 3
_NOISE_MARGIN = 2.0
"""A sample this many bits per byte above the usual surprisal is noise."""


@dataclass
class Health:
    """Recent values of a run. Only values that were found healthy are added."""

    losses: list[float] = field(default_factory=list)
    """Recent losses in bits per byte."""
    first_loss: float | None = None
    """Loss of the first step."""
    level: float = math.inf
    """Lowest median so far of `_SUSTAINED` losses in a row."""
    activations: list[float] = field(default_factory=list)
    """Root mean squares of the residual stream after the stack."""
    samples: list[tuple[float, float]] = field(default_factory=list)
    """C and surprisal in bits per byte of samples, under the model that wrote them."""

    def take_loss(self, loss: float) -> None:
        """Add a healthy loss."""
        self.first_loss = loss if self.first_loss is None else self.first_loss
        self.losses = [*self.losses, loss][-_WINDOW:]
        if len(self.losses) >= _SUSTAINED:
            self.level = min(self.level, median(self.losses[-_SUSTAINED:]))

    def take_activations(self, rms: float) -> None:
        """Add a healthy root mean square of the residual stream."""
        self.activations = [*self.activations, rms][-_WINDOW:]

    def take_sample(self, complexity: float, surprisal: float) -> None:
        """Add the metrics of a healthy sample."""
        self.samples = [*self.samples, (complexity, surprisal)][-_WINDOW:]

    def loss_limit(self) -> float:
        """The loss in bits per byte above which a step is a spike."""
        worse_than_chance = max(UNTRAINED_BITS_PER_BYTE, self.first_loss or 0.0) + _SPIKE_MARGIN
        if len(self.losses) < _MIN_VALUES:
            return min([worse_than_chance, *(loss + _EARLY_MARGIN for loss in self.losses)])
        usual = median(self.losses)
        spread = median(abs(loss - usual) for loss in self.losses)
        spike = usual + max(_SPIKE_MARGIN, _DEVIATIONS * _SIGMA_PER_MAD * spread)
        return min(worse_than_chance, spike)

    def loss_fault(self, loss: float) -> str | None:
        """Check the loss of one step for a spike."""
        limit = self.loss_limit()
        if loss > limit:
            return f"loss is {loss:.2f} bits per byte, above the limit of {limit:.2f}"
        return None

    def drift_fault(self) -> str | None:
        """Check recent losses for a lasting rise in which no single loss is a spike."""
        if len(self.losses) < _SUSTAINED:
            return None
        settled = median(self.losses[-_SUSTAINED:])
        if settled > self.level + _MAX_DRIFT:
            return f"losses settled at {settled:.2f} bits per byte after {self.level:.2f}"
        return None

    def activation_fault(self, rms: float, spread: float) -> str | None:
        """Check the residual stream after the stack: its root mean square, and its standard
        deviation over positions as a share of that."""
        if not math.isfinite(rms):
            return f"activations are {rms}"
        if spread < _MIN_SPREAD:
            return f"activations are the same at every position (they differ by {spread:.1g})"
        if len(self.activations) >= _MIN_VALUES:
            usual = median(self.activations)
            if rms > _MAX_ACTIVATION_GROWTH * usual:
                return f"activations have exploded, from {usual:.3g} to {rms:.3g}"
        return None

    def sample_fault(self, complexity: float, surprisal: float) -> str | None:
        """Check a sample for loops and for noise.

        A calibrated model has the same surprisal on its own samples as on the data. Loops in the
        data lower both, so a sample is a loop only if its surprisal is also below the loss."""
        if len(self.samples) < _MIN_SAMPLES or not self.losses:
            return None
        usual_c, usual_surprisal = (median(values) for values in zip(*self.samples, strict=True))
        loss = median(self.losses)
        metrics = f"C {complexity:.2f} after {usual_c:.2f}, {surprisal:.2f} bits per byte"
        lower = complexity < usual_c / 2 or surprisal < usual_surprisal / 4
        if lower and surprisal < loss / 2:
            return f"samples turned to loops ({metrics} after {usual_surprisal:.2f})"
        if surprisal > max(usual_surprisal, loss) + _NOISE_MARGIN:
            return f"samples turned to noise ({metrics} after {usual_surprisal:.2f})"
        return None

    def state_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {name: _copied(value) for name, value in vars(self).items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Health":
        """Restore a value of `state_dict`."""
        return cls(**{name: _copied(value) for name, value in state.items()})


def step_fault(loss: float, norm: float) -> str | None:
    """Check the loss and the joint norm of the gradients for NaN and infinity."""
    if not math.isfinite(loss):
        return f"loss is {loss}"
    return None if math.isfinite(norm) else f"gradient norm is {norm}"


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) else value
