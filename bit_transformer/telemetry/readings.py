"""The documented telemetry of one forward pass, each reading computed when it is looked at."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.telemetry.complexity_proxy import lz_complexity_proxy
from bit_transformer.telemetry.lazy import LazyReadings
from bit_transformer.telemetry.metrics import (
    divergence,
    lz_complexity,
    negentropy,
    negentropy_of_bits,
    symbiosis,
)
from bit_transformer.telemetry.probe import Probe
from bit_transformer.telemetry.universal_code import reference_for


def pass_readings(
    bits: Integer[Tensor, "B T"],
    logits: Float[Tensor, "B T"],
    probe: Probe,
    *,
    symbol_bits: int = 8,
    reference: Callable[[], Float[Tensor, "B T"]] | None = None,
    maps: bool = False,
    activations: bool = False,
) -> LazyReadings:
    """Readings of a pass over `bits`; `logits[:, t]` is the model's log-odds of bit t being one.

    `reference` gives another model's probabilities of a one; by default S is held against the
    adaptive universal code. Keys and shapes, L layers, S positions:

    `negentropy_input`, `lz_complexity_input`: K and C of the bits, (B,)
    `negentropy_logits`, `lz_complexity_logits`: K and C of the predictions, (B,)
    `symbiosis_kl`: KL(reference || model) in bits per bit; `symbiosis_score`: exp(-it), (B,)
    `attention_entropy`: bits, (B, L, H); `attention_entropy_mean`: (B,)
    `halt_probs`: probability of stopping after each block, (B, S, L)
    `activations`: (L + 1, B, S, D) and `attention_maps`: (B, L, H, S, S), where asked for
    """
    logits = logits.detach()

    def kl() -> Tensor:
        p_ones = torch.sigmoid(logits.double())
        held = reference() if reference else reference_for(bits, p_ones, symbol_bits=symbol_bits)
        return _mean(divergence(held.double(), p_ones)).float()

    sources: dict[str, Callable[[], Tensor]] = {
        "negentropy_input": lambda: negentropy_of_bits(bits, symbol_bits=symbol_bits),
        "lz_complexity_input": lambda: lz_complexity(bits),
        "negentropy_logits": lambda: negentropy(logits),
        "lz_complexity_logits": lambda: lz_complexity_proxy(torch.sigmoid(logits.float())),
        "symbiosis_kl": kl,
        "symbiosis_score": lambda: symbiosis(readings["symbiosis_kl"]),
        "attention_entropy": probe.attention_entropy,
        "attention_entropy_mean": lambda: readings["attention_entropy"].mean((1, 2)),
        "halt_probs": probe.halting_probabilities,
    }
    if maps:
        sources["attention_maps"] = probe.attention_maps
    if activations:
        sources["activations"] = lambda: probe.activations
    readings = LazyReadings(**sources)
    return readings


def _mean(values: Tensor) -> Tensor:
    return values.mean(-1) if values.shape[-1] else values.sum(-1)
