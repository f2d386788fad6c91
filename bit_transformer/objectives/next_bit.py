"""The causal objective: the mean code length of the data in bits per byte."""

import math

from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.model.likelihood import exit_logits
from bit_transformer.model.transformer import BitTransformer


def next_bit_loss(network: BitTransformer, bits: Integer[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Cross-entropy of every bit, the first included, in bits per byte of original data.

    An untrained network gives 8. Parity bits cost nothing and are not in the denominator. Where
    patches may leave the trunk early it is the expectation over where they leave it.
    """
    logits, stops = exit_logits(network, bits)
    return expected_code_length(logits, stops, bits, network.config.bits_per_byte)


def expected_code_length(
    logits: Float[Tensor, "E B T"],
    stops: Float[Tensor, "E B T"],
    bits: Integer[Tensor, "B T"],
    bits_per_byte: int,
) -> Float[Tensor, ""]:
    """`mean_code_length` from each exit, weighted with the probability that it is taken."""
    if len(logits) == 1:
        return mean_code_length(logits[0], bits, bits_per_byte)
    nats = functional.binary_cross_entropy_with_logits(
        logits, bits.to(logits.dtype).expand_as(logits), reduction="none"
    )
    return (nats * stops).sum() / (math.log(2) * (bits.numel() / bits_per_byte))


def mean_code_length(
    logits: Float[Tensor, "B T"], bits: Integer[Tensor, "B T"], bits_per_byte: int
) -> Float[Tensor, ""]:
    """Code length of `bits` under log-odds of a one, in bits per byte; a byte has `bits_per_byte`
    bits, 9 with parity."""
    nats = functional.binary_cross_entropy_with_logits(
        logits, bits.to(logits.dtype), reduction="sum"
    )
    return nats / (math.log(2) * (bits.numel() / bits_per_byte))
