"""Every pair of features matches its reference or is refused with the way out named.

A row is a feature: how it changes a model or a use of it, without changing what is computed. A pair
is both at once. The reference is the plain model in one pass; a feature that loses precision says
so by its tolerance. New features add a row here and edit no other.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from bit_transformer import (
    BitTransformerLM,
    SafetyGate,
    SamplingConfig,
    guarded_stream,
    set_dropout,
)
from bit_transformer.inference.generate import stream_bits
from bit_transformer.inference.predictor import Predictor
from bit_transformer.objectives.next_bit import next_bit_loss
from bit_transformer.objectives.regularizers import RegularizerConfig, regularized
from bit_transformer.telemetry.probe import Probe
from bit_transformer.training.precision import autocast
from tests.builders import tiny_model

Likelihood = Callable[[BitTransformerLM, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Feature:
    """One row of the matrix."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Changes the model that is built; the reference is built with them too."""
    apply: Callable[[BitTransformerLM], object] = lambda model: None
    """Changes the built model; the reference is without it."""
    wrap: Callable[[Likelihood], Likelihood] = lambda read: read
    """Changes how the likelihood is computed; the reference is one plain pass."""
    tolerance: float = 1e-5
    """In bits per bit."""


def _through_a_cache(read: Likelihood) -> Likelihood:
    def cached(model: BitTransformerLM, bits: torch.Tensor) -> torch.Tensor:
        predictor = Predictor(model.network, len(bits))
        return torch.cat([predictor.read(piece) for piece in bits.split(5, dim=1)], dim=1)

    return cached


def _in_bf16(read: Likelihood) -> Likelihood:
    def autocasted(model: BitTransformerLM, bits: torch.Tensor) -> torch.Tensor:
        with autocast("cpu", "bf16"):
            return read(model, bits).float()

    return autocasted


def _with_telemetry(read: Likelihood) -> Likelihood:
    def observed(model: BitTransformerLM, bits: torch.Tensor) -> torch.Tensor:
        _, telemetry = model(bits)
        assert all(torch.isfinite(value).all() for value in telemetry.values())
        return read(model, bits)

    return observed


def _probed(read: Likelihood) -> Likelihood:
    def probed(model: BitTransformerLM, bits: torch.Tensor) -> torch.Tensor:
        with Probe(model.network) as probe:
            found = read(model, bits)
        # What is saved and loaded again is another network, which nobody looks at.
        if probe.observed:
            assert probe.attention_entropy().isfinite().all()
        return found

    return probed


def _saved_and_loaded(read: Likelihood) -> Likelihood:
    def loaded(model: BitTransformerLM, bits: torch.Tensor) -> torch.Tensor:
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(Path(folder) / "model")
            return read(BitTransformerLM.from_pretrained(Path(folder) / "model"), bits)

    return loaded


FEATURES = [
    Feature("flat bits", {"patch_size": 1}),
    Feature("parity", {"patch_size": 9, "parity": True}),
    Feature("no memory", {"memory_bits": ()}),
    Feature("long memory", {"memory_bits": (8, 64, 128)}),
    Feature("capped logits", {"logit_cap": 3.0}),
    Feature("dropout", apply=lambda model: set_dropout(model, 0.5)),
    Feature("KV cache", wrap=_through_a_cache),
    Feature("bf16 autocast", wrap=_in_bf16, tolerance=0.15),
    Feature("telemetry", wrap=_with_telemetry),
    Feature("logged maps and activations", {"full_attn_logging": True, "log_activations": True}),
    Feature("probe", wrap=_probed),
    Feature("checkpoint", wrap=_saved_and_loaded),
]

PAIRS = list(itertools.combinations(FEATURES, 2))
REFUSED: dict[frozenset[str], str] = {
    frozenset({"flat bits", "parity"}): "parity needs patch_size=9",
}
"""Pairs that raise, and what the message says about the way out."""

# Two values for one setting are one feature after another, not two at once.
EXCLUSIVE = {frozenset({"no memory", "long memory"})}


def _bits(parity: bool) -> torch.Tensor:
    data = torch.randint(0, 2, (2, 5, 8), generator=torch.Generator().manual_seed(0))
    if parity:
        data = torch.cat((data, data.sum(-1, keepdim=True) % 2), dim=-1)
    return data.flatten(1)


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a.name} x {b.name}" for a, b in PAIRS])
def test_a_pair_equals_its_reference_or_is_refused(first, second):
    names = frozenset({first.name, second.name})
    if names in EXCLUSIVE:
        pytest.skip("two values of one setting")
    settings = first.settings | second.settings
    if names in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[names]):
            tiny_model(**(second.settings | first.settings))
        return
    bits = _bits(settings.get("parity", False))
    plain = tiny_model(**settings)
    expected = plain.log2_likelihood(bits).detach()
    model = tiny_model(**settings)
    for feature in (first, second):
        feature.apply(model)
    found = second.wrap(first.wrap(BitTransformerLM.log2_likelihood))(model, bits).detach()
    tolerance = max(first.tolerance, second.tolerance)
    assert (found - expected).abs().mean() < tolerance


OBJECTIVES = {
    "next bit": next_bit_loss,
    "regularized": regularized(RegularizerConfig(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_trains(feature, objective):
    model = tiny_model(**feature.settings).train()
    feature.apply(model)
    OBJECTIVES[objective](model.network, _bits(model.config.parity)).backward()
    gradients = [weight.grad for weight in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    assert all(
        g.coalesce().values().isfinite().all() if g.is_sparse else g.isfinite().all()
        for g in gradients
    )


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_generates_the_same_under_a_gate(feature):
    model = tiny_model(**feature.settings).eval()
    feature.apply(model)
    arguments = (model.network, _bits(model.config.parity)[:1, :36], 72, SamplingConfig())
    plain = torch.cat(list(stream_bits(*arguments, torch.Generator().manual_seed(0))), dim=1)
    lenient = SafetyGate(0.0, 0.0)
    guarded = guarded_stream(*arguments, lenient, torch.Generator().manual_seed(0))
    assert np.array_equal(np.concatenate(list(guarded)), plain[0].numpy())
