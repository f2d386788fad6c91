"""When a run has gone bad: rules on plain numbers, without a network or a file.

A rule answers with the fault in words, or None. What is normal is the median of recent healthy
values; how far from it is normal is their median absolute deviation (Hampel 1974).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

_RECENT = 32
"""Healthy values that say what is normal."""
_ENOUGH = 8
"""Fewer of them say nothing."""
_COIN_FLIP = 8.0
"""Bits per byte of a network that knows nothing."""
_MARGIN = 1.0
"""Bits per byte above what is normal that no spread excuses as a spike."""
_EARLY_MARGIN = 2.0
"""The same above the least of the first losses, which should fall."""
_DEVIATIONS = 8.0
_NORMAL = 1.4826
"""Standard deviation of normal values over their median absolute deviation."""
_SUSTAINED = 16
_DRIFT = 0.4
"""Bits per byte by which losses may settle above the lowest level they had settled at."""
_ACTIVATION_GROWTH = 30.0
_LEAST_SPREAD = 1e-3
_SAMPLES_ENOUGH = 3
_NOISE_MARGIN = 2.0


@dataclass
class Health:
    """What was normal in a run so far. Only values that were found healthy are taken in."""

    losses: list[float] = field(default_factory=list)
    """The last ones, bits per byte."""
    first_loss: float | None = None
    """Of the first step."""
    level: float = math.inf
    """Lowest median of `_SUSTAINED` losses in a row."""
    activations: list[float] = field(default_factory=list)
    """Root mean squares of the residual stream after the stack."""
    samples: list[tuple[float, float]] = field(default_factory=list)
    """C and own surprisal, bits per byte, of the model's samples."""

    def take_loss(self, loss: float) -> None:
        """Remember a healthy loss."""
        self.first_loss = loss if self.first_loss is None else self.first_loss
        self.losses = [*self.losses, loss][-_RECENT:]
        if len(self.losses) >= _SUSTAINED:
            self.level = min(self.level, median(self.losses[-_SUSTAINED:]))

    def take_activations(self, rms: float) -> None:
        """Remember a healthy scale of the residual stream."""
        self.activations = [*self.activations, rms][-_RECENT:]

    def take_sample(self, complexity: float, surprisal: float) -> None:
        """Remember the readings of a healthy sample."""
        self.samples = [*self.samples, (complexity, surprisal)][-_RECENT:]

    def loss_limit(self) -> float:
        """Loss of one step, bits per byte, beyond which it is a spike."""
        worse_than_chance = max(_COIN_FLIP, self.first_loss or 0.0) + _MARGIN
        if len(self.losses) < _ENOUGH:
            return min([worse_than_chance, *(loss + _EARLY_MARGIN for loss in self.losses)])
        usual = median(self.losses)
        spread = median(abs(loss - usual) for loss in self.losses)
        spike = usual + max(_MARGIN, _DEVIATIONS * _NORMAL * spread)
        return min(worse_than_chance, spike)

    def loss_fault(self, loss: float) -> str | None:
        """Of one step."""
        limit = self.loss_limit()
        if loss > limit:
            return f"loss is {loss:.2f} bits per byte, beyond {limit:.2f}"
        return None

    def drift_fault(self) -> str | None:
        """Of the last losses together: each may pass, and yet they have settled higher."""
        if len(self.losses) < _SUSTAINED:
            return None
        settled = median(self.losses[-_SUSTAINED:])
        if settled > self.level + _DRIFT:
            return f"losses settled at {settled:.2f} bits per byte after {self.level:.2f}"
        return None

    def activation_fault(self, rms: float, spread: float) -> str | None:
        """Of the residual stream after the stack: its root mean square, and the share of it that
        differs between positions."""
        if not math.isfinite(rms):
            return f"activations are {rms}"
        if spread < _LEAST_SPREAD:
            return f"activations are the same at every position (they differ by {spread:.1g})"
        if len(self.activations) >= _ENOUGH:
            usual = median(self.activations)
            if rms > _ACTIVATION_GROWTH * usual:
                return f"activations have exploded, from {usual:.3g} to {rms:.3g}"
        return None

    def sample_fault(self, complexity: float, surprisal: float) -> str | None:
        """Of what the model writes. A model that knows its data is as surprised by its own samples
        as by the data, so data that loops is no reason to find loops bad."""
        if len(self.samples) < _SAMPLES_ENOUGH or not self.losses:
            return None
        usual_c, usual_surprisal = (median(values) for values in zip(*self.samples, strict=True))
        loss = median(self.losses)
        readings = f"C {complexity:.2f} after {usual_c:.2f}, {surprisal:.2f} bits per byte"
        lower = complexity < usual_c / 2 or surprisal < usual_surprisal / 4
        if lower and surprisal < loss / 2:
            return f"samples turned to loops ({readings} after {usual_surprisal:.2f})"
        if surprisal > max(usual_surprisal, loss) + _NOISE_MARGIN:
            return f"samples turned to noise ({readings} after {usual_surprisal:.2f})"
        return None

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values."""
        return {name: _copied(value) for name, value in vars(self).items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Health":
        """What `state_dict` gave."""
        return cls(**{name: _copied(value) for name, value in state.items()})


def step_fault(loss: float, norm: float) -> str | None:
    """NaN or infinity in the loss or in the joint norm of the gradients."""
    if not math.isfinite(loss):
        return f"loss is {loss}"
    return None if math.isfinite(norm) else f"gradient norm is {norm}"


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) else value
