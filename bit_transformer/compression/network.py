"""The interface of a network in the codec; `lane_network` implements it.

Only protocols and arrays are defined here, because mixing alone must not import PyTorch.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64

from bit_transformer.compression.lane_arithmetic import LaneState, Weights


class Trunk(NamedTuple):
    """A network and the state of all its lanes, for compiled code to run."""

    weights: Weights
    state: LaneState
    reversible: bool
    logit_cap: float


@runtime_checkable
class Reader(Protocol):
    """The lanes of one block, as a network has read them."""

    log_odds: Int32[np.ndarray, "L nodes"]
    """Log-odds of a one at each node of the next patch, scaled as in `fixed_point`."""

    @property
    def trunk(self) -> Trunk | None:
        """The network for compiled code; None if only `read` can run it."""

    def read(self, patches: Int64[np.ndarray, " L"]) -> None:
        """Read one more patch of every lane."""


@runtime_checkable
class Network(Protocol):
    """A network's weights, which the lanes of any block can share."""

    digest: bytes
    """SHA-256 of everything that its predictions depend on."""

    @property
    def patch_size(self) -> int:
        """Bits per patch."""

    @property
    def bits_per_byte(self) -> int:
        """9 if the network reads parity bits, else 8."""

    def begin(self, lanes: int) -> Reader:
        """Return a reader of this many lanes that has read the start position."""


@runtime_checkable
class HoldsNetwork(Protocol):
    """A model that holds a network, as `BitTransformerLM` does."""

    network: Any
