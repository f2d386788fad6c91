"""K, C and S match their definitions and their limiting cases."""

import math
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional

from bit_transformer.errors import InvalidPredictionError
from bit_transformer.telemetry.complexity_proxy import lz_complexity_proxy
from bit_transformer.telemetry.forward_pass import LazyMetrics
from bit_transformer.telemetry.metrics import (
    attention_entropy,
    attention_map,
    binary_entropy,
    divergence,
    lz_complexity,
    negentropy,
    negentropy_of_bits,
    symbiosis,
)

LONG = 16_384


def _bits(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.unpackbits(np.frombuffer(data, np.uint8)))


def _random(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 2, (length,), generator=torch.Generator().manual_seed(seed))


def _loop(period_bytes: int, length: int) -> torch.Tensor:
    return _random(8 * period_bytes, period_bytes).repeat(length)[:length]


def _source(length: int) -> torch.Tensor:
    path = Path(sysconfig.get_paths()["stdlib"]) / "argparse.py"
    return _bits(path.read_bytes()[: length // 8])


def _both(bits: torch.Tensor) -> tuple[float, float]:
    """Return C of bits, by the exact metric and by its proxy."""
    return float(lz_complexity(bits[None])), float(lz_complexity_proxy(bits[None].double()))


def test_binary_entropy_is_shannons():
    for p in (0.01, 0.3, 0.5, 0.99):
        expected = -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
        logit = torch.tensor(math.log(p / (1 - p)), dtype=torch.float64)
        assert binary_entropy(logit).item() == pytest.approx(expected)
    certain = torch.tensor([-torch.inf, -200.0, 200.0, torch.inf])
    assert binary_entropy(certain).tolist() == [0, 0, 0, 0]


def test_negentropy_goes_from_a_coin_flip_to_certainty():
    logits = torch.tensor([[0.0, 0.0], [50.0, -50.0], [0.0, 50.0]])
    assert negentropy(logits).tolist() == pytest.approx([0, 1, 0.5])
    assert negentropy(torch.zeros(2, 0)).tolist() == [0, 0]


def test_k_of_random_bits_is_zero():
    found = negentropy_of_bits(torch.stack([_random(4096, seed) for seed in range(8)]))
    assert (found <= 0.05).all()


@pytest.mark.parametrize("bits", [torch.zeros(4096), torch.arange(4096) % 2, _loop(4, 4096)])
def test_k_of_what_repeats_is_near_one(bits):
    assert negentropy_of_bits(bits[None].long()) > 0.95


def test_k_of_code_lies_between_and_grows_with_what_was_seen():
    short, long = (float(negentropy_of_bits(_source(n)[None])) for n in (2048, LONG))
    assert 0.2 < short < long < 0.9


@pytest.mark.parametrize("period", [1, 2, 3, 8, 17, 32, 64])
def test_c_of_loops_is_low(period):
    assert max(_both(_loop(period, LONG))) <= 0.2


def test_c_of_constants_is_low_and_of_random_bits_high():
    assert max(*_both(torch.zeros(LONG).long()), *_both(torch.ones(LONG).long())) <= 0.2
    assert min(_both(_random(LONG))) >= 0.9


def test_c_of_code_lies_between():
    exact, proxy = _both(_source(LONG))
    assert 0.2 < exact < 0.9
    assert 0.2 < proxy < 0.9


def test_the_proxy_ranks_as_the_exact_metric():
    code, n = _source(4096), 4096
    mixed = [_random(n, seed) for seed in range(2)] + [code, _loop(3, n), _loop(40, n)]
    for share in (0.02, 0.05, 0.1, 0.2, 0.3, 0.4):
        flips = (torch.rand(n, generator=torch.Generator().manual_seed(7)) < share).long()
        mixed += [flips, code ^ flips, _loop(16, n) ^ flips]
    exact, proxy = zip(*map(_both, mixed), strict=True)
    assert spearmanr(exact, proxy).statistic >= 0.9


def test_the_proxy_has_a_gradient_almost_everywhere():
    soft = torch.sigmoid(3 * torch.randn(2, 512, generator=torch.Generator().manual_seed(0)))
    soft = soft.double().requires_grad_()
    lz_complexity_proxy(soft).sum().backward()
    assert soft.grad is not None
    assert (soft.grad != 0).float().mean() > 0.99
    assert soft.grad.isfinite().all()


def test_following_the_proxy_makes_a_loop_more_complex():
    logits = (2.0 * _loop(2, 512).double() - 1).mul(2)[None].requires_grad_()
    before = lz_complexity_proxy(torch.sigmoid(logits))
    before.sum().backward()
    assert logits.grad is not None
    after = lz_complexity_proxy(torch.sigmoid(logits.detach() + 50 * logits.grad))
    assert after > before


@pytest.mark.parametrize("length", [0, 1])
def test_empty_and_one_bit_sequences_show_no_order(length):
    bits = torch.ones(3, length).long()
    assert negentropy_of_bits(bits).tolist() == [0, 0, 0]
    assert lz_complexity(bits).tolist() == [1, 1, 1]
    assert lz_complexity_proxy(bits.float()).tolist() == [1, 1, 1]


def test_probabilities_of_exactly_zero_and_one_are_defined():
    assert 0 <= float(lz_complexity_proxy(_random(256)[None].float())) <= 1
    p = torch.tensor([0.0, 1.0])
    assert divergence(p, p).abs().max() < 1e-6
    assert divergence(p, 1 - p).tolist() == pytest.approx([24, 24])


def test_divergence_is_kullbacks_and_symbiosis_one_only_for_equals():
    reference, model = torch.tensor([0.2, 0.7]).double(), torch.tensor([0.5, 0.6]).double()
    nats = functional.kl_div(model.log(), reference, reduction="none") + functional.kl_div(
        (1 - model).log(), 1 - reference, reduction="none"
    )
    assert torch.allclose(divergence(reference, model), nats / math.log(2))
    assert symbiosis(divergence(model, model)).tolist() == pytest.approx([1, 1])
    assert (symbiosis(divergence(reference, model)) < 1).all()


def test_nan_predictions_are_refused():
    for read in (negentropy, binary_entropy):
        with pytest.raises(InvalidPredictionError, match="NaN"):
            read(torch.tensor([[0.0, torch.nan]]))
    with pytest.raises(InvalidPredictionError):
        divergence(torch.tensor([0.5]), torch.tensor([torch.nan]))


def test_attention_entropy_needs_no_map(generator):
    queries, keys = torch.randn(2, 2, 3, 100, 8, generator=generator).double()
    weights = attention_map(queries, keys)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 100).double())
    assert weights.triu(1).abs().max() == 0
    expected = -(torch.special.xlogy(weights, weights)).sum(-1).mean(-1) / math.log(2)
    for rows in (1, 7, 64, 200):
        assert torch.allclose(attention_entropy(queries, keys, rows_at_once=rows), expected)


def test_even_attention_has_the_entropy_of_its_keys():
    zeros = torch.zeros(1, 1, 16, 4)
    expected = sum(math.log2(n) for n in range(1, 17)) / 16
    assert float(attention_entropy(zeros, zeros)) == pytest.approx(expected)


def test_lazy_metrics_are_computed_once_on_first_access():
    calls = []

    def metric() -> torch.Tensor:
        calls.append(1)
        return torch.ones(1)

    metrics = LazyMetrics(first=metric, second=metric)
    assert list(metrics) == ["first", "second"]
    assert len(metrics) == 2
    assert not calls
    assert metrics["first"] is metrics["first"]
    assert metrics.including(third=metric)["first"] is metrics["first"]
    assert len(calls) == 1
    with pytest.raises(KeyError):
        metrics["third"]
