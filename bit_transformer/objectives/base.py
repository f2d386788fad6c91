"""The interface of an objective, through which the trainer computes losses and evaluates."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from bit_transformer.model.transformer import BitTransformer


@runtime_checkable
class Objective(Protocol):
    """A training loss and the matching evaluation metric, both in bits per byte of data."""

    name: str
    """The name in settings, runs and checkpoints."""
    causal: bool
    """Whether the trained network predicts each bit from only the bits before it."""

    def loss(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """The training loss with penalties. `progress` in [0, 1] is the share of the run that is
        done, for objectives with a schedule."""
        ...

    def code_length(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """The loss without penalties, in one forward pass. Differentiable."""
        ...

    def evaluate(
        self, network: BitTransformer, data: Iterable[UInt8[np.ndarray, " _"]]
    ) -> Iterator[Float[np.ndarray, " _"]]:
        """Yield the cost in bits of every byte of `data`, in order, in arrays of any length.

        `data` may be split into arrays of any length. The network must be in evaluation mode.
        """
        ...
