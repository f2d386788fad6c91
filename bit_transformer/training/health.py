"""When a run is going bad: decisions over plain numbers, no network."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

_MEMORY = 50
_LEAST = 10
_DEVIATIONS = 8.0
_MARGIN = 0.3
_COIN_FLIP, _NOTHING_LEARNED = 8.0, 0.95
_NORMAL = 1.4826
"""Standard deviations in a median absolute deviation of Gaussian numbers."""
_EXPLODED, _DEAD = 20.0, 1e-4
_LOOPING, _NOISY = 0.35, 0.97


@dataclass
class LossHealth:
    """Whether a loss fits those before it."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))

    def complaint(self, loss: float, norm: float) -> str | None:
        """What is wrong with the loss (bits per byte) or the gradients' norm, None when nothing is.

        A loss is too high when it lies eight robust deviations, and 30 %, above the median of the
        last fifty; or, once the run has begun, 30 % above a coin flip.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradients' norm is {norm}"
        if len(self.losses) < _LEAST:
            limit = _COIN_FLIP * (1 + _MARGIN)
            return f"a loss of {loss:.2f} is worse than a coin flip" if loss > limit else None
        median = float(np.median(self.losses))
        deviation = _NORMAL * float(np.median(np.abs(np.array(self.losses) - median)))
        limit = max(median + _DEVIATIONS * deviation, (1 + _MARGIN) * median)
        return f"a loss of {loss:.2f} after {median:.2f}" if loss > limit else None

    def stagnation(self) -> str | None:
        """What is wrong when many steps have taught nothing: the median is still a coin flip's."""
        if len(self.losses) < 2 * _LEAST:
            return None
        median = float(np.median(list(self.losses)[-_LEAST:]))
        if median < _NOTHING_LEARNED * _COIN_FLIP:
            return None
        return f"a loss of {median:.2f} after {len(self.losses)} steps: nothing was learned"

    def accept(self, loss: float) -> None:
        """Remember a good loss."""
        self.losses.append(loss)

    def reset(self, losses: Iterable[float] = ()) -> None:
        """Remember these instead."""
        self.losses = deque(losses, maxlen=_MEMORY)


@dataclass
class ActivationHealth:
    """Whether the residual stream after the trunk is alive and of a usual size."""

    sizes: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))

    def complaint(self, size: float, variation: float) -> str | None:
        """What is wrong; `size` is a root mean square, `variation` that of its differences over
        positions."""
        if not (math.isfinite(size) and math.isfinite(variation)):
            return "activations are not finite"
        if variation <= _DEAD * size:
            return "activations are the same at every position"
        usual = float(np.median(self.sizes)) if self.sizes else size
        if size > _EXPLODED * usual:
            return f"activations grew from {usual:.3g} to {size:.3g}"
        self.sizes.append(size)
        return None


@dataclass
class SampleHealth:
    """Whether what the model writes has turned to loops or to noise."""

    best_complexity: float = 0.0
    least_surprisal: float = math.inf
    strikes: int = 0

    def complaint(self, complexity: float, surprisal: float) -> str | None:
        """What is wrong after two bad samples in a row; C of a sample, and its own bits per bit.

        A sample is bad only against better ones before it: an untrained model writes noise.
        """
        looping = self.best_complexity > 2 * _LOOPING and complexity < _LOOPING / 2
        noisy = self.least_surprisal < 0.7 and surprisal > _NOISY
        self.strikes = self.strikes + 1 if looping or noisy else 0
        self.best_complexity = max(self.best_complexity, complexity)
        self.least_surprisal = min(self.least_surprisal, surprisal)
        if self.strikes < 2:
            return None
        self.strikes = 0
        return "samples have turned to loops" if looping else "samples have turned to noise"
