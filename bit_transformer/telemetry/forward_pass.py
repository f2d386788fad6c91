"""The metrics of one forward pass, each computed on first access, so unused ones cost nothing."""

from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.telemetry.complexity_proxy import lz_complexity_proxy
from bit_transformer.telemetry.metrics import (
    divergence,
    lz_complexity,
    negentropy,
    negentropy_of_bits,
    symbiosis,
)
from bit_transformer.telemetry.probe import Probe
from bit_transformer.telemetry.universal_code import reference_for


class LazyMetrics(Mapping[str, Tensor]):
    """A read-only mapping from names to tensors. Each tensor is computed once, on first access."""

    def __init__(self, **sources: Callable[[], Tensor]) -> None:
        self._sources = sources
        self._values: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._values:
            self._values[name] = self._sources[name]()
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def including(self, **sources: Callable[[], Tensor]) -> "LazyMetrics":
        """Return a mapping with further entries. It shares the values computed here."""
        own = {name: (lambda name=name: self[name]) for name in self._sources}
        return LazyMetrics(**own, **sources)


def pass_metrics(
    bits: Integer[Tensor, "B T"],
    logits: Float[Tensor, "B T"],
    probe: Probe,
    *,
    symbol_bits: int = 8,
    reference: Callable[[], Float[Tensor, "B T"]] | None = None,
    maps: bool = False,
    activations: bool = False,
) -> LazyMetrics:
    """Return the metrics of a pass over `bits`; `logits[:, t]` is the log-odds that bit t is a one.

    `reference` returns another model's probabilities of a one. By default S compares the model with
    `universal_code.Reference`. Keys and shapes, with L layers and S positions:

    `negentropy_input`, `lz_complexity_input`: K and C of the bits, (B,)
    `negentropy_logits`, `lz_complexity_logits`: K and C of the predictions, (B,)
    `symbiosis_kl`: KL(reference || model) in bits per bit, (B,); `symbiosis_score`: exp(-KL), (B,)
    `attention_entropy`: in bits, (B, L, H); `attention_entropy_mean`: (B,)
    `halt_probs`: probability of exiting after each block, (B, S, L)
    `activations`: (L + 1, B, S, D), and `attention_maps`: (B, L, H, S, S), on request
    """
    logits = logits.detach()

    def kl() -> Tensor:
        p_ones = torch.sigmoid(logits.double())
        target = reference() if reference else reference_for(bits, p_ones, symbol_bits=symbol_bits)
        return _mean(divergence(target.double(), p_ones)).float()

    sources: dict[str, Callable[[], Tensor]] = {
        "negentropy_input": lambda: negentropy_of_bits(bits, symbol_bits=symbol_bits),
        "lz_complexity_input": lambda: lz_complexity(bits),
        "negentropy_logits": lambda: negentropy(logits),
        "lz_complexity_logits": lambda: lz_complexity_proxy(torch.sigmoid(logits.float())),
        "symbiosis_kl": kl,
        "symbiosis_score": lambda: symbiosis(metrics["symbiosis_kl"]),
        "attention_entropy": probe.attention_entropy,
        "attention_entropy_mean": lambda: metrics["attention_entropy"].mean((1, 2)),
        "halt_probs": probe.halting_probabilities,
    }
    if maps:
        sources["attention_maps"] = probe.attention_maps
    if activations:
        sources["activations"] = lambda: probe.activations
    metrics = LazyMetrics(**sources)
    return metrics


def _mean(values: Tensor) -> Tensor:
    return values.mean(-1) if values.shape[-1] else values.sum(-1)
