"""The causal objective: the code length of each bit given all bits before it.

Penalties on the predictions may be added, from the same forward pass. Each is the mean over windows
of `lambda * max(0, floor - X)`, where X is one telemetry metric of the step's own predictions. A
metric at or above its floor costs nothing and has no gradient. Below its floor, a penalty pushes:

K  negentropy: towards more confident predictions
C  the differentiable Lempel-Ziv complexity: away from repetition
S  exp(-KL(code || model)): towards the predictions of the adaptive universal code

Here S compares the model with the universal code alone. Telemetry's S compares it with a reference
that switches to the model where the model is better. Such a target would move with the model.

The penalty is on S and not on KL, because S is bounded and no window can outweigh the data. The
gradient of S vanishes only at several bits per bit of divergence, which no window's mean reaches.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor
from torch.nn import functional

from bit_transformer.inference.score import stream_surprisal
from bit_transformer.model.transformer import BitTransformer, exit_bit_logits
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.telemetry.complexity_proxy import lz_complexity_proxy
from bit_transformer.telemetry.metrics import divergence, negentropy, symbiosis
from bit_transformer.telemetry.universal_code import UniversalCode

_EARLY_SHARE = 0.3
"""Share of the loss that all exits but the last have together."""


class Causal:
    """Cross-entropy of every bit, including the first, in bits per byte of original data.

    An untrained network has a loss of 8. Parity bits cost nothing and do not count as data. A loss
    that is not finite is returned without penalties.
    """

    name = "causal"
    causal = True

    def __init__(self, config: ObjectiveConfig | None = None) -> None:
        self._config = config or ObjectiveConfig()

    def loss(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"], progress: float = 1.0
    ) -> Float[Tensor, ""]:
        """See `Objective`."""
        width = network.config.bits_per_byte
        logits, halt_probs = exit_bit_logits(network, bits)
        loss = exits_code_length(
            logits.float(), halt_probs, bits, width, ponder_cost=network.config.ponder_cost
        )
        if not loss.isfinite():
            return loss
        return loss + penalty(logits[-1].float(), bits, self._config, symbol_bits=width)

    def code_length(
        self, network: BitTransformer, bits: Integer[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """See `Objective`."""
        return next_bit_loss(network, bits)

    def evaluate(
        self, network: BitTransformer, data: Iterable[UInt8[np.ndarray, " _"]]
    ) -> Iterator[Float[np.ndarray, " _"]]:
        """Yield the surprisal of every byte, in full-context windows that overlap by half."""
        return stream_surprisal(network, data)


def next_bit_loss(network: BitTransformer, bits: Integer[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Code length of the bits in bits per byte of original data, without penalties."""
    logits, halt_probs = exit_bit_logits(network, bits)
    return exits_code_length(logits, halt_probs, bits, network.config.bits_per_byte)


def exits_code_length(
    logits: Float[Tensor, "E B T"],
    halt_probs: Float[Tensor, "E B T"],
    bits: Integer[Tensor, "B T"],
    bits_per_byte: int,
    *,
    ponder_cost: float = 0.0,
) -> Float[Tensor, ""]:
    """`mean_code_length` where positions may exit at several places.

    The trunk learns from all exits, mostly from the last. The halting units have a loss of their
    own: the expected code length plus `ponder_cost`, the cost of all blocks in bits per byte.
    If the trunk also minimised that expectation, the exits that learn first would attract all
    positions, and the later blocks would not learn.
    """
    if len(logits) == 1:
        return mean_code_length(logits[0], bits, bits_per_byte)
    lengths = torch.stack([mean_code_length(row, bits, bits_per_byte) for row in logits])
    shares = lengths.new_full((len(logits),), _EARLY_SHARE / (len(logits) - 1))
    shares[-1] = 1 - _EARLY_SHARE
    halting = _expected_code_length(logits.detach(), halt_probs, bits, bits_per_byte)
    halting = halting + ponder_cost * _expected_depth(halt_probs)
    # The difference is zero: the halting loss adds its gradient and leaves the value as it is.
    return (shares * lengths).sum() + halting - halting.detach()


def _expected_code_length(
    logits: Tensor, halt_probs: Tensor, bits: Tensor, bits_per_byte: int
) -> Float[Tensor, ""]:
    nats = functional.binary_cross_entropy_with_logits(
        logits, bits.to(logits.dtype).expand_as(logits), reduction="none"
    )
    return (nats * halt_probs).sum() / (math.log(2) * (bits.numel() / bits_per_byte))


def _expected_depth(halt_probs: Float[Tensor, "E B T"]) -> Float[Tensor, ""]:
    """Mean share of the blocks that a position passes through."""
    shares = torch.arange(1, len(halt_probs) + 1, device=halt_probs.device) / len(halt_probs)
    return (halt_probs * shares[:, None, None]).sum(0).mean()


def mean_code_length(
    logits: Float[Tensor, "B T"], bits: Integer[Tensor, "B T"], bits_per_byte: int
) -> Float[Tensor, ""]:
    """Code length of `bits` in bits per byte, where `logits` are the log-odds of a one. A byte has
    `bits_per_byte` bits: 9 with parity, otherwise 8."""
    nats = functional.binary_cross_entropy_with_logits(
        logits, bits.to(logits.dtype), reduction="sum"
    )
    return nats / (math.log(2) * (bits.numel() / bits_per_byte))


def penalty(
    logits: Float[Tensor, "B T"],
    bits: Integer[Tensor, "B T"],
    config: ObjectiveConfig,
    *,
    symbol_bits: int = 8,
) -> Float[Tensor, ""]:
    """Sum of the penalties on predictions. `logits[:, t]` are the log-odds that bit t is a one.

    A metric with weight 0 is not computed. `UniversalCode` explains `symbol_bits`.
    """
    total = logits.new_zeros(())
    if config.lambda_k:
        total = total + config.lambda_k * _below(negentropy(logits), config.floor_k)
    if config.lambda_c:
        complexity = lz_complexity_proxy(torch.sigmoid(logits))
        total = total + config.lambda_c * _below(complexity, config.floor_c)
    if config.lambda_s:
        kl = divergence(_code(bits, symbol_bits).to(logits.dtype), torch.sigmoid(logits))
        total = total + config.lambda_s * _below(symbiosis(kl.mean(-1)), config.floor_s)
    return total


def _below(metric: Float[Tensor, " B"], floor: float) -> Float[Tensor, ""]:
    return (floor - metric).relu().mean()


def _code(bits: Integer[Tensor, "B T"], symbol_bits: int) -> Float[Tensor, "B T"]:
    """The universal code's probability that each bit is a one. It reads each row on its own."""
    rows = [UniversalCode(symbol_bits).read(row) for row in bits.cpu().numpy()]
    return torch.from_numpy(np.stack(rows)).to(bits.device)
