"""Penalties on what predictions look like, beside how well they predict.

Each is `lambda * relu(floor - X)`, the mean over windows, of one telemetry reading X of the step's
own predictions, so a reading at or above its floor costs nothing and pulls at nothing:

K  negentropy: below its floor, towards surer predictions
C  the differentiable Lempel-Ziv complexity: below its floor, away from repetition
S  exp(-KL(code || model)): below its floor, towards what the adaptive universal code predicts

Where patches may leave the trunk early the readings are those at its end, and `ponder_cost` is the
price of running through all of it: a patch stays only as long as that pays.

S is held against the universal code alone and not against the switching reference of telemetry:
that one follows the model wherever the model does better, and a target that moves with what is
optimised is no target. The hinge is on S and not on KL: S is bounded, so no window can outweigh
the data, and its gradient -S only fades at divergences (several bits per bit) that means over
windows do not reach.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.model.likelihood import exit_logits
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.objectives.config import RegularizerConfig
from bit_transformer.objectives.next_bit import exits_code_length
from bit_transformer.telemetry.complexity_proxy import lz_complexity_proxy
from bit_transformer.telemetry.metrics import divergence, negentropy, symbiosis
from bit_transformer.telemetry.universal_code import UniversalCode


def regularized(
    config: RegularizerConfig,
) -> Callable[[BitTransformer, Integer[Tensor, "B T"]], Float[Tensor, ""]]:
    """The next-bit objective with these penalties, from one forward pass.

    A loss that is no number is returned as it is.
    """

    def objective(network: BitTransformer, bits: Tensor) -> Tensor:
        width = network.config.bits_per_byte
        logits, stops = exit_logits(network, bits)
        loss = exits_code_length(logits.float(), stops, bits, width, ponder_cost=config.ponder_cost)
        if not loss.isfinite():
            return loss
        return loss + penalty(logits[-1].float(), bits, config, symbol_bits=width)

    return objective


def penalty(
    logits: Float[Tensor, "B T"],
    bits: Integer[Tensor, "B T"],
    config: RegularizerConfig,
    *,
    symbol_bits: int = 8,
) -> Float[Tensor, ""]:
    """Sum of the penalties on predictions `logits[:, t]`, log-odds of bit t being one.

    Readings whose weight is 0 are not computed. `symbol_bits` as in `UniversalCode`.
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


def _below(readings: Float[Tensor, " B"], floor: float) -> Float[Tensor, ""]:
    return (floor - readings).relu().mean()


def _code(bits: Integer[Tensor, "B T"], symbol_bits: int) -> Float[Tensor, "B T"]:
    """Probability of a one before each bit, by a universal code that reads each row alone."""
    rows = [UniversalCode(symbol_bits).read(row) for row in bits.cpu().numpy()]
    return torch.from_numpy(np.stack(rows)).to(bits.device)
