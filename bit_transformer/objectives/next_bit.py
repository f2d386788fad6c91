"""The causal objective: the mean code length of the data in bits per byte."""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.model.likelihood import exit_logits
from bit_transformer.model.transformer import BitTransformer

_EARLY_SHARE = 0.3
"""Of the loss: what all exits but the last have in it together."""


def next_bit_loss(network: BitTransformer, bits: Integer[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Cross-entropy of every bit, the first included, in bits per byte of original data.

    An untrained network gives 8. Parity bits cost nothing and are not in the denominator.
    """
    logits, stops = exit_logits(network, bits)
    return exits_code_length(logits, stops, bits, network.config.bits_per_byte)


def exits_code_length(
    logits: Float[Tensor, "E B T"],
    stops: Float[Tensor, "E B T"],
    bits: Integer[Tensor, "B T"],
    bits_per_byte: int,
    *,
    ponder_cost: float = 0.0,
) -> Float[Tensor, ""]:
    """`mean_code_length` where patches may leave the trunk at several places.

    The trunk learns to predict from all of them, mostly from the last; the halting units learn,
    apart from it, to leave where the code length and the `ponder_cost` (bits per byte, of all
    blocks together) are least in sum. Trained on their expectation instead, the exits that learn
    first draw all patches and the blocks behind them starve.
    """
    if len(logits) == 1:
        return mean_code_length(logits[0], bits, bits_per_byte)
    lengths = torch.stack([mean_code_length(row, bits, bits_per_byte) for row in logits])
    shares = lengths.new_full((len(logits),), _EARLY_SHARE / (len(logits) - 1))
    shares[-1] = 1 - _EARLY_SHARE
    choice = _expected_code_length(logits.detach(), stops, bits, bits_per_byte)
    choice = choice + ponder_cost * _depth(stops)
    return (shares * lengths).sum() + choice - choice.detach()


def _expected_code_length(
    logits: Tensor, stops: Tensor, bits: Tensor, bits_per_byte: int
) -> Float[Tensor, ""]:
    nats = functional.binary_cross_entropy_with_logits(
        logits, bits.to(logits.dtype).expand_as(logits), reduction="none"
    )
    return (nats * stops).sum() / (math.log(2) * (bits.numel() / bits_per_byte))


def _depth(stops: Float[Tensor, "E B T"]) -> Float[Tensor, ""]:
    """Mean share of the blocks that is run through."""
    shares = torch.arange(1, len(stops) + 1, device=stops.device) / len(stops)
    return (stops * shares[:, None, None]).sum(0).mean()


def mean_code_length(
    logits: Float[Tensor, "B T"], bits: Integer[Tensor, "B T"], bits_per_byte: int
) -> Float[Tensor, ""]:
    """Code length of `bits` under log-odds of a one, in bits per byte; a byte has `bits_per_byte`
    bits, 9 with parity."""
    nats = functional.binary_cross_entropy_with_logits(
        logits, bits.to(logits.dtype), reduction="sum"
    )
    return nats / (math.log(2) * (bits.numel() / bits_per_byte))
