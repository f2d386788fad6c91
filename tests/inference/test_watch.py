"""Watching a generation changes no bit and agrees with scoring the result."""

import numpy as np
import pytest
import torch

from bit_transformer import SamplingConfig
from bit_transformer.errors import ConfigError
from bit_transformer.inference.generate import generate_bits
from bit_transformer.inference.watch import bit_metrics, watch
from bit_transformer.telemetry.stream import METRIC_FIELDS
from tests.builders import tiny_model


@pytest.mark.parametrize("settings", [{}, {"patch_size": 12}, {"patch_size": 9, "parity": True}])
@pytest.mark.parametrize("prompt_bits", [0, 18, 29])
@pytest.mark.parametrize("at_once", [1, 4])
def test_watching_changes_nothing_and_agrees_with_scoring(
    settings, prompt_bits, at_once, generator
):
    model = tiny_model(**settings)
    if model.config.parity:
        prompt_bits = prompt_bits // 9 * 9
    prompt = torch.zeros(1, prompt_bits, dtype=torch.uint8)
    sampling, new = SamplingConfig(temperature=0.9), 36 * 8
    expected = generate_bits(model.network, prompt, new, sampling, torch.Generator().manual_seed(1))
    seen = watch(
        model.network,
        prompt,
        new,
        sampling,
        torch.Generator().manual_seed(1),
        patches_at_once=at_once,
    )
    stretches = list(seen)
    bits = np.concatenate([stretch.bits for stretch in stretches])
    assert np.array_equal(bits, expected[0, prompt_bits:].numpy())
    surprisal = np.concatenate([stretch.surprisal for stretch in stretches])
    scored = -model.log2_likelihood(expected).detach()[0, prompt_bits:].numpy()
    np.testing.assert_allclose(surprisal, scored, atol=1e-4)
    (whole,) = bit_metrics(model.network, expected)
    for name in METRIC_FIELDS:
        parts = [seen.prompt_metrics, *(stretch.readings for stretch in stretches)]
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(joined, getattr(whole, name), atol=2e-3)


def test_alternatives_are_the_likeliest_patches():
    model = tiny_model()
    prompt = torch.zeros(1, 8, dtype=torch.uint8)
    greedy = SamplingConfig(temperature=0.0)
    for stretch in watch(model.network, prompt, 64, greedy):
        (alternatives,) = stretch.alternatives(3)
        drawn = int("".join(map(str, stretch.bits)), 2)
        assert alternatives[0][0] == drawn
        assert alternatives[0][1] == pytest.approx(2 ** -stretch.surprisal.sum(), rel=1e-3)
        assert [p for _, p in alternatives] == sorted((p for _, p in alternatives), reverse=True)


def test_one_sequence_at_a_time():
    with pytest.raises(ConfigError, match="one sequence"):
        watch(tiny_model().network, torch.zeros(2, 8, dtype=torch.uint8), 8, SamplingConfig())
