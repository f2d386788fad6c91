"""Features of a model, and the checks that two of them work together.

A feature changes a model or how it is used. The tests use every two features at once, and compare
the result with a reference: one pass of a plain model with the same settings. A feature that loses
precision has a larger tolerance. A new feature is one more entry of `FEATURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from bit_transformer import BitTransformerLM, prepare_qat_fx, quantize_dynamic, set_dropout
from bit_transformer.bits.codec import bits_to_bytes
from bit_transformer.compression.contexts import BINARY
from bit_transformer.compression.fixed_point import ONE, STRETCH_SCALE
from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.compression.mixed_network import MixedNetwork
from bit_transformer.compression.mixer import Mixer
from bit_transformer.compression.tables import NETWORK
from bit_transformer.distributed.activation_checkpoint import checkpoint_blocks
from bit_transformer.distributed.compile import compile_branches
from bit_transformer.inference.dynamic_evaluation import adaptive_likelihood
from bit_transformer.inference.predictor import Predictor, log2_likelihood
from bit_transformer.inference.sampling import patch_log_probabilities
from bit_transformer.model.bit_tree import patch_values, path_logits
from bit_transformer.model.stack import ReversibleStack
from bit_transformer.model.transformer import bit_logits
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.telemetry.probe import Probe
from bit_transformer.training.precision import Precision, autocast
from tests.builders import tiny_model

Likelihood = Callable[[BitTransformerLM, torch.Tensor, bool], torch.Tensor]
"""Takes (model, bits, causal) and returns log2 of the probability of each bit."""


def _in_one_pass(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
    return log2_likelihood(bit_logits(model.network, bits, causal=causal), bits)


@dataclass(frozen=True)
class Feature:
    """A change to a model or to how the model is used."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the model. The reference is built with them too."""
    apply: Callable[[BitTransformerLM], object] = lambda model: None
    """Changes the model after it is built. The reference is not changed."""
    swap: Callable[[BitTransformerLM], BitTransformerLM] = lambda model: model
    """Returns a model that replaces the built one. The reference is not replaced."""
    wrap: Callable[[Likelihood], Likelihood] = lambda read: read
    """Changes how the likelihood is computed. The reference is computed in one plain pass."""
    causal: bool = True
    """Whether positions read only earlier ones. This holds for the reference too."""
    tolerance: float = 1e-5
    """Largest mean difference from the reference, in bits per bit."""


def _through_a_cache(read: Likelihood) -> Likelihood:
    def cached(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        if not causal:
            patches = torch.zeros(len(bits), 1, dtype=torch.int64)
            model.network(patches, model.network.new_cache(len(bits)), causal=False)
        predictor = Predictor(model.network, len(bits))
        return torch.cat([predictor.read(piece) for piece in bits.split(5, dim=1)], dim=1)

    return cached


def _in_bf16(read: Likelihood) -> Likelihood:
    def autocasted(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        with autocast("cpu", "bf16"):
            return read(model, bits, causal).float()

    return autocasted


def _with_telemetry(read: Likelihood) -> Likelihood:
    def observed(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        _, telemetry = model(bits, causal=causal)
        assert all(torch.isfinite(value).all() for value in telemetry.values())
        return read(model, bits, causal)

    return observed


def _probed(read: Likelihood) -> Likelihood:
    def probed(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        with Probe(model.network) as probe:
            found = read(model, bits, causal)
        # The feature "checkpoint" reads with a loaded copy, which the probe does not see.
        if probe.observed:
            assert probe.attention_entropy().isfinite().all()
        return found

    return probed


def _saved_and_loaded(read: Likelihood) -> Likelihood:
    def loaded(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(Path(folder) / "model")
            return read(BitTransformerLM.from_pretrained(Path(folder) / "model"), bits, causal)

    return loaded


def _in_lanes(read: Likelihood) -> Likelihood:
    """Compute the likelihood with the integer arithmetic of the codec, in steps of 1/256."""

    def by_the_codec(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        size = model.config.patch_size
        padded = functional.pad(bits, (0, -bits.shape[1] % size))
        patches, found = patch_values(padded, size), []
        reader = LaneNetwork(model.network).begin(len(bits))
        for index in range(patches.shape[1]):
            nodes = torch.from_numpy(reader.log_odds) / STRETCH_SCALE
            if model.config.parity:
                nodes = torch.cat((nodes, model.network.head.parity_logits.expand(nodes.shape)), 1)
            found.append(path_logits(nodes[:, None], patches[:, index : index + 1], size)[:, 0])
            reader.read(patches[:, index].numpy())
        return log2_likelihood(torch.cat(found, dim=1)[:, : bits.shape[1]], bits)

    return by_the_codec


def _bytes_of(bits: torch.Tensor, parity: bool) -> np.ndarray:
    return np.frombuffer(bits_to_bytes(bits.numpy().astype(np.uint8), parity=parity), np.uint8)


def _trusting_mixer() -> Mixer:
    """Return a mixer that begins with the network's opinion alone and hardly learns another."""
    mixer = Mixer(profile=BINARY, table_bits=10, network=True)
    mixer.tables.weights[:] = 0
    mixer.tables.weights[:, :, NETWORK] = ONE
    mixer.tables.clock[0] = 1 << 40
    return mixer


def _beside_a_mixer(read: Likelihood) -> Likelihood:
    """Read with a network and a context mixer, whose predictions are then close to the network's.

    What the mixture predicts for the following patch must add up to one.
    """

    def mixed(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        source, rows = MixedNetwork(model.network, _trusting_mixer()), []
        for row in bits:
            predictor = source.predictor()
            rows.append(torch.cat([predictor.read(part) for part in row[None].split(13, dim=1)], 1))
            log_p = patch_log_probabilities(predictor.node_logits)
            assert abs(float(log_p.exp().sum()) - 1) < 1e-4
        static = next(source.surprisal([_bytes_of(bits[0], model.config.parity)])).static
        plain = _in_one_pass(model, bits[:1], causal=True).detach().reshape(len(static), -1)
        assert np.allclose(-plain.sum(-1), static, rtol=0.01, atol=0.01)
        return torch.cat(rows)

    return mixed


def _with_a_learning_head(read: Likelihood) -> Likelihood:
    """Read with a head that may learn, at a rate of 0: it is then the network's own head."""

    def learning(model: BitTransformerLM, bits: torch.Tensor, causal: bool) -> torch.Tensor:
        parity, rows = model.config.parity, []
        for row in bits:
            data = [_bytes_of(row, parity)]
            (found,) = adaptive_likelihood(model.network, data, len(data[0]), 0, rate=0.0)
            known = torch.from_numpy(found.adaptive)
            # A parity bit is certain: its log-probability is 0.
            rows.append(functional.pad(known, (0, parity)).flatten())
        return torch.stack(rows)

    return learning


FEATURES = [
    Feature("flat bits", {"patch_size": 1}),
    Feature("parity", {"patch_size": 9, "parity": True}),
    Feature("no memory", {"memory_bits": ()}),
    Feature("long memory", {"memory_bits": (8, 64, 128)}),
    Feature("capped logits", {"logit_cap": 3.0}),
    Feature("leaf logits", {"leaf_logits": True}),
    Feature("reversible", {"reversible": True}),
    Feature("chunked attention", {"chunk_size": 144, "overlap": 72}),
    Feature("adaptive computation", {"use_act": True, "act_threshold": 0.6}),
    Feature("gradient checkpointing", apply=lambda model: checkpoint_blocks(model.network)),
    Feature("bidirectional", causal=False),
    Feature("int8", swap=quantize_dynamic, tolerance=0.15),
    Feature("QAT", swap=prepare_qat_fx, tolerance=0.6),
    Feature("dropout", apply=lambda model: set_dropout(model, 0.5)),
    Feature("KV cache", wrap=_through_a_cache),
    Feature("bf16 autocast", wrap=_in_bf16, tolerance=0.15),
    Feature("telemetry", wrap=_with_telemetry),
    Feature("logged maps and activations", {"full_attn_logging": True, "log_activations": True}),
    Feature("probe", wrap=_probed),
    Feature("checkpoint", wrap=_saved_and_loaded),
    Feature("codec", wrap=_in_lanes, tolerance=0.02),
    Feature("context mixer", wrap=_beside_a_mixer, tolerance=0.1),
    Feature("dynamic evaluation", wrap=_with_a_learning_head),
]

REFUSED: dict[frozenset[str], str] = {
    frozenset({"flat bits", "parity"}): "parity needs patch_size=9",
    frozenset({"reversible", "gradient checkpointing"}): "ReversibleStack .*; use one of them",
    frozenset({"reversible", "adaptive computation"}): "with use_act, set use_checkpoint",
    frozenset({"int8", "QAT"}): "use the model from before its quantization",
    frozenset({"KV cache", "bidirectional"}): "in one pass without a cache, or use causal=True",
}
"""Pairs that raise an error, and the part of its message that says what to do instead."""

# These pairs cannot be used at once. The first would give one setting two values.
EXCLUSIVE = {
    frozenset({"no memory", "long memory"}),
    # The codec always reads forwards and through all blocks.
    frozenset({"codec", "bidirectional"}),
    frozenset({"codec", "adaptive computation"}),
    # These are two ways to read, and only one of them would be used.
    frozenset({"codec", "KV cache"}),
    frozenset({"context mixer", "codec"}),
    frozenset({"context mixer", "KV cache"}),
    *(frozenset({"dynamic evaluation", name}) for name in ("codec", "KV cache", "context mixer")),
    # The mixer and the head learn forwards.
    frozenset({"context mixer", "bidirectional"}),
    frozenset({"dynamic evaluation", "bidirectional"}),
}


def sample_bits(parity: bool) -> torch.Tensor:
    data = torch.randint(0, 2, (2, 5, 8), generator=torch.Generator().manual_seed(0))
    if parity:
        data = torch.cat((data, data.sum(-1, keepdim=True) % 2), dim=-1)
    return data.flatten(1)


COMPILED = Feature("compile", apply=lambda model: compile_branches(model.network))
"""It is not in `FEATURES`, because it needs a process without run-time type checks."""
_BF16 = "bf16 autocast"
_TRAINED_TOGETHER = {
    "reversible",
    "chunked attention",
    "adaptive computation",
    "gradient checkpointing",
    _BF16,
}
TRAINED = [
    *(feature for feature in FEATURES if feature.name in _TRAINED_TOGETHER),
    Feature("drops", {"dropout": 0.3}),
]
"""Features whose gradients are compared."""


def assert_equals_reference(first: Feature, second: Feature) -> None:
    """Check that the likelihood with both features equals that of the reference."""
    plain = tiny_model(**(first.settings | second.settings))
    causal = first.causal and second.causal
    expected = _in_one_pass(plain, sample_bits(plain.config.parity), causal).detach()
    tolerance = max(first.tolerance, second.tolerance)
    assert (read_together(first, second) - expected).abs().mean() < tolerance


def read_together(first: Feature, second: Feature) -> torch.Tensor:
    """Return the likelihood under a model with both features."""
    model = tiny_model(**(second.settings | first.settings))
    for feature in (first, second):
        model = feature.swap(model)
        feature.apply(model)
    causal = first.causal and second.causal
    read = second.wrap(first.wrap(_in_one_pass))
    return read(model, sample_bits(model.config.parity), causal).detach()


def assert_gradients_equal_reference(first: Feature, second: Feature) -> None:
    """Check that the gradients with both features equal those of plain autograd."""
    settings = first.settings | second.settings
    with mock.patch.object(ReversibleStack, "forward", _without_recomputation):
        expected = _gradients(tiny_model(**settings), "fp32")
    model = tiny_model(**settings)
    for feature in (first, second):
        model = feature.swap(model)
        feature.apply(model)
    cast = _BF16 in (first.name, second.name)
    found = _gradients(model, "bf16" if cast else "fp32")
    # bfloat16 rounds coarsely. Gradients that are missing or counted twice are still noticed.
    tolerance = 0.5 if cast else 1e-4
    for name, gradient in found.items():
        assert (gradient - expected[name]).norm() <= tolerance * expected[name].norm(), name


def _without_recomputation(stack: ReversibleStack, *arguments: Any) -> torch.Tensor:
    first, second = stack.run(*arguments)
    return (first + second) / 2


def _gradients(model: BitTransformerLM, precision: Precision) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    with autocast("cpu", precision):
        loss = next_bit_loss(model.train().network, sample_bits(parity=False))
    loss.backward()
    return {
        name: weight.grad.to_dense() if weight.grad.is_sparse else weight.grad
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
