"""The interface between the trainer and whatever a network is trained for."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from bit_transformer.model.transformer import BitTransformer


@runtime_checkable
class Objective(Protocol):
    """A training loss and the measure that belongs to it, both in bits per byte of data."""

    name: str
    """The name in settings, runs and checkpoints."""
    causal: bool
    """Whether a network trained for it predicts each bit from the bits before it alone."""

    def loss(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """The training loss, penalties included. `progress` is the share of the run that is done,
        for objectives with a schedule."""
        ...

    def code_length(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """Cost of the bits without penalties, in one forward pass. Differentiable."""
        ...

    def evaluate(
        self, network: BitTransformer, data: Iterable[UInt8[np.ndarray, " _"]]
    ) -> Iterator[Float[np.ndarray, " _"]]:
        """Cost of every byte of some data in bits, a stretch at a time.

        `data` comes in pieces of any size. The network must be in evaluation mode.
        """
        ...
