"""What the codec asks of a network, and of what holds one.

`lane_network` gives it of ours. Whoever codes without a network needs neither that nor PyTorch.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64

from bit_transformer.compression.lockstep import Trunk


@runtime_checkable
class Reader(Protocol):
    """What the lanes of one block have read, and what a network makes of it."""

    log_odds: Int32[np.ndarray, "L nodes"]
    """Of a one at each node of the patch that comes next, as `fixed_point` has them."""

    @property
    def trunk(self) -> Trunk | None:
        """For compiled code to read patches by itself; None where that cannot be."""

    def read(self, patches: Int64[np.ndarray, " L"]) -> None:
        """One more patch of every lane."""


@runtime_checkable
class Network(Protocol):
    """A network's weights, as the lanes of any block read them."""

    digest: bytes
    """SHA-256 of all that decides what it predicts."""

    @property
    def patch_size(self) -> int:
        """Bits that it reads at a time."""

    @property
    def bits_per_byte(self) -> int:
        """9 where it reads parity bits, else 8."""

    def begin(self, lanes: int) -> Reader:
        """So many lanes that have read the start position."""


@runtime_checkable
class HoldsNetwork(Protocol):
    """A model: something with a network, as `BitTransformerLM` is."""

    network: Any
