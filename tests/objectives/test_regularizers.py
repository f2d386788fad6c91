"""Penalties on K, C and S are zero above a floor. Below it, they raise the metric."""

import dataclasses

import pytest
import torch

from bit_transformer import RunConfig
from bit_transformer.errors import ConfigError
from bit_transformer.model.transformer import bit_logits
from bit_transformer.objectives.causal import Causal, next_bit_loss, penalty
from bit_transformer.objectives.config import ObjectiveConfig
from bit_transformer.telemetry.complexity_proxy import lz_complexity_proxy
from bit_transformer.telemetry.metrics import divergence, negentropy, symbiosis
from bit_transformer.telemetry.universal_code import UniversalCode
from bit_transformer.training.fit import train_run
from tests.builders import tiny_model

T = 96


def _bits(rows=2):
    return torch.randint(0, 2, (rows, T), generator=torch.Generator().manual_seed(0))


def _code(bits):
    return torch.stack([torch.from_numpy(UniversalCode().read(row.numpy())) for row in bits])


METRICS = {
    "k": lambda logits, bits: negentropy(logits),
    "c": lambda logits, bits: lz_complexity_proxy(torch.sigmoid(logits)),
    "s": lambda logits, bits: symbiosis(divergence(_code(bits), torch.sigmoid(logits)).mean(-1)),
}


def _low(name):
    """Return logits with a low K (coin flips), C (a loop) or S (confident mistakes)."""
    noise = 0.1 * torch.randn(2, T, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    if name == "k":
        return noise
    if name == "c":
        return noise + torch.tensor([4.0, -4.0], dtype=torch.float64).repeat(2, T // 2)
    return noise + 5.0 * (1 - 2 * _bits())


def _only(name, weight=1.0, floor=0.9):
    return ObjectiveConfig(**{f"lambda_{name}": weight, f"floor_{name}": floor})


def test_without_weights_it_is_the_next_bit_loss_itself():
    network, bits = tiny_model().network, _bits()
    expected = next_bit_loss(network, bits)
    for config in (ObjectiveConfig(), ObjectiveConfig(floor_k=1.0)):
        assert torch.equal(Causal(config).loss(network, bits), expected)


@pytest.mark.parametrize("settings", [{}, {"parity": True, "patch_size": 9}])
def test_one_pass_gives_the_loss_and_the_penalty(settings):
    network = tiny_model(**settings).network
    width = network.config.bits_per_byte
    bits = torch.zeros(2, 4 * width, dtype=torch.int64)
    config = ObjectiveConfig("causal", 1.0, 2.0, 3.0, 0.9, 0.9, 0.9)
    passes = []
    network.head.register_forward_hook(lambda *_: passes.append(1))
    found = Causal(config).loss(network, bits)
    assert len(passes) == 1
    expected = penalty(bit_logits(network, bits), bits, config, symbol_bits=width)
    torch.testing.assert_close(found, next_bit_loss(network, bits) + expected)
    found.backward()
    assert all(
        weight.grad.to_dense().isfinite().all()
        for weight in network.parameters()
        if weight.grad is not None
    )


@pytest.mark.parametrize("name", METRICS)
def test_nothing_is_paid_at_the_floor_and_the_distance_below_it(name):
    bits, logits = _bits(), _low(name)
    metrics = METRICS[name](logits, bits)
    floor = float(metrics.max())
    assert penalty(logits, bits, _only(name, floor=max(0.0, float(metrics.min())))).item() == 0
    found = penalty(logits, bits, _only(name, weight=2.0, floor=min(1.0, floor + 0.1)))
    expected = 2 * (min(1.0, floor + 0.1) - metrics).mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", METRICS)
def test_a_small_step_down_the_gradient_raises_the_reading(name):
    bits = _bits()
    logits = _low(name).requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(logits, bits, _only(name)), logits)
    assert gradient.abs().max() > 0
    after = METRICS[name](logits.detach() - 0.1 * gradient, bits)
    assert (after > METRICS[name](logits.detach(), bits)).all()


@pytest.mark.parametrize("name", ["k", "s"])
def test_gradients_are_those_of_finite_differences(name):
    # Finite differences do not apply to C. Its contexts are made of the likelier bits, and
    # the weights of its mixture have no gradient.
    bits = _bits(1)[:, :12]
    logits = _low(name)[:1, :12].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: penalty(x, bits, _only(name)), logits)


def test_a_loss_that_is_not_finite_is_returned_as_it_is():
    network = tiny_model().network
    network.head.nodes.data.fill_(torch.nan)
    assert Causal(_only("k")).loss(network, _bits()).isnan()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambda_k": -1.0}, "lambda_k must be at least 0 and finite, got -1.0"),
        ({"lambda_c": float("nan")}, "lambda_c must be at least 0"),
        ({"floor_s": 1.5}, r"floor_s must be in \[0, 1\], got 1.5"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**settings)
    with pytest.raises(ConfigError, match="objective: " + message):
        RunConfig.from_dict({"objective": settings})


def test_a_run_trains_with_them(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(b"the quick brown fox jumps over the lazy dog. " * 100)
    config = RunConfig.from_dict(
        {
            "data": {"sources": [str(corpus)], "held_out_fraction": 0.0},
            "model": tiny_model().config.to_dict() | {"max_seq_len": 256},
            "train": {"steps": 3, "batch_size": 2, "device": "cpu"},
            "objective": {"lambda_k": 1.0, "lambda_c": 1.0, "lambda_s": 1.0},
        }
    )
    assert RunConfig.from_dict(config.to_dict()) == config
    plain = dataclasses.replace(config, objective=ObjectiveConfig())
    for name, settings in (("plain", plain), ("regularised", config)):
        assert train_run(settings, tmp_path / name, progress=False).steps == 3
