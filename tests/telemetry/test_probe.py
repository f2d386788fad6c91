"""Telemetry observes a network without changing its output."""

import pytest
import torch

from bit_transformer import BitTransformerLM
from bit_transformer.errors import InvalidPredictionError
from bit_transformer.model.transformer import bit_logits
from bit_transformer.objectives.causal import next_bit_loss
from bit_transformer.telemetry.probe import Probe
from tests.builders import tiny_model

KEYS = {
    "negentropy_input": (2,),
    "lz_complexity_input": (2,),
    "negentropy_logits": (2,),
    "lz_complexity_logits": (2,),
    "symbiosis_kl": (2,),
    "symbiosis_score": (2,),
    "attention_entropy": (2, 2, 2),
    "attention_entropy_mean": (2,),
    "halt_probs": (2, 9, 2),
}


@pytest.fixture
def bits(generator):
    return torch.randint(0, 2, (2, 64), generator=generator)


def test_the_documented_keys_are_there_with_their_shapes(bits):
    _, telemetry = tiny_model()(bits)
    assert {name: tuple(value.shape) for name, value in telemetry.items()} == KEYS
    assert all(torch.isfinite(value).all() for value in telemetry.values())
    assert torch.allclose(telemetry["halt_probs"].sum(-1), torch.ones(2, 9))


def test_a_probe_changes_no_logit_and_no_gradient(bits):
    plain, probed = tiny_model().double(), tiny_model().double()
    losses = [next_bit_loss(plain.network, bits)]
    with Probe(probed.network) as probe:
        losses.append(next_bit_loss(probed.network, bits))
    assert torch.equal(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    pairs = zip(plain.parameters(), probed.parameters(), strict=True)
    assert all(torch.equal(one.grad.to_dense(), two.grad.to_dense()) for one, two in pairs)
    assert probe.attention_entropy().isfinite().all()


def test_all_hooks_are_removed(bits):
    model = tiny_model()
    model(bits)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_maps_and_activations_are_returned_on_request(bits):
    model = tiny_model(full_attn_logging=True, log_activations=True)
    _, telemetry = model(bits)
    maps, activations = telemetry["attention_maps"], telemetry["activations"]
    assert maps.shape == (2, 2, 2, 9, 9)
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 2, 9))
    assert activations.shape == (3, 2, 9, 16)
    expected = model.network.head(activations[-1])
    patches = bits.view(2, -1, 8) @ (1 << torch.arange(7, -1, -1))
    assert torch.allclose(model.network(patches), expected, atol=1e-6)


def test_only_the_first_pass_is_observed(bits):
    model = tiny_model()
    with Probe(model.network, rows=1) as probe:
        bit_logits(model.network, bits)
        first = probe.activations
        bit_logits(model.network, 1 - bits)
        assert torch.equal(probe.activations, first)
        assert first.shape[1] == 1
        probe.clear()
        bit_logits(model.network, 1 - bits)
        assert not torch.equal(probe.activations, first)


def test_s_is_one_against_the_model_itself(bits):
    model = tiny_model()
    same = BitTransformerLM(**{**model.config.to_dict()}, reference=model).eval()
    same.load_state_dict(model.state_dict())
    _, telemetry = same(bits)
    assert torch.allclose(telemetry["symbiosis_score"], torch.ones(2))
    _, against_another = BitTransformerLM(**model.config.to_dict(), reference=model)(bits)
    assert (against_another["symbiosis_score"] < 0.99).all()
    assert len(list(same.parameters())) == len(list(model.parameters()))


def test_nan_weights_raise_an_error(bits):
    model = tiny_model()
    torch.nn.init.constant_(model.network.head.nodes, torch.nan)
    _, telemetry = model(bits)
    for name in ("negentropy_logits", "symbiosis_score"):
        with pytest.raises(InvalidPredictionError):
            telemetry[name]
