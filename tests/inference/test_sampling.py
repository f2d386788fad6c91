"""Patches are drawn from the distribution that the node logits describe."""

import math

import pytest
import torch

from bit_transformer.errors import ConfigError, InvalidPredictionError
from bit_transformer.inference.sampling import (
    draw_patch,
    patch_log_probabilities,
    sample_patch,
    seeded,
    uniform_numbers,
)
from bit_transformer.inference.sampling_config import MAX_TEMPERATURE, SamplingConfig


@pytest.mark.parametrize("patch_size", [1, 4, 8, 12])
def test_walking_down_the_tree_inverts_the_same_distribution_function(patch_size, generator):
    logits = 3 * torch.randn(64, 2**patch_size, generator=generator)
    walked = sample_patch(logits, SamplingConfig(), None, torch.Generator().manual_seed(1))
    log_p = patch_log_probabilities(logits.double())
    drawn = draw_patch(log_p, SamplingConfig(), None, torch.Generator().manual_seed(1))
    # A random number at the edge between two patches may fall to either because of rounding.
    assert (walked == drawn).float().mean() > 0.98


def test_certain_bits_are_never_drawn_otherwise():
    logits = torch.full((1000, 16), 100.0)
    assert (sample_patch(logits, SamplingConfig()) == 15).all()
    assert (sample_patch(-logits, SamplingConfig()) == 0).all()


def test_frequencies_are_the_probabilities(generator):
    logits = torch.randn(1, 4, generator=generator)
    p = patch_log_probabilities(logits)[0].exp()
    drawn = sample_patch(logits.expand(40_000, -1), SamplingConfig(), None, generator)
    found = torch.bincount(drawn[:, 0], minlength=4) / 40_000
    assert (found - p).abs().max() < 0.015


@pytest.mark.parametrize("settings", [{"temperature": 0.5}, {"top_k": 2}, {"min_p": 0.1}])
def test_filters_take_the_whole_distribution(settings, generator):
    config = SamplingConfig(**settings)
    assert config.filters
    logits = torch.randn(32, 256, generator=generator)
    one = sample_patch(logits, config, None, torch.Generator().manual_seed(2))
    log_p = patch_log_probabilities(logits)
    assert torch.equal(one, draw_patch(log_p, config, None, torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("temperature", [5e-324, 1e-39, 1e-10])
def test_a_temperature_that_underflows_takes_the_most_likely_patch(temperature, generator):
    logits = 20 * torch.randn(64, 256, generator=generator)
    greedy = sample_patch(logits, SamplingConfig(0.0))
    assert torch.equal(sample_patch(logits, SamplingConfig(temperature)), greedy)
    allowed = torch.arange(256) % 3 == 0
    greedy = sample_patch(logits, SamplingConfig(0.0), allowed[None])
    assert torch.equal(sample_patch(logits, SamplingConfig(temperature), allowed[None]), greedy)


def test_the_highest_temperature_draws_nearly_evenly(generator):
    logits = torch.tensor([[0.0, 3.0, -3.0, 3.0]]).expand(40_000, -1)
    drawn = sample_patch(logits, SamplingConfig(MAX_TEMPERATURE), None, generator)
    assert (torch.bincount(drawn[:, 0], minlength=4) / 40_000 - 0.25).abs().max() < 0.015


@pytest.mark.parametrize("settings", [{"top_p": 5e-324}, {"min_p": 1.0}, {"top_k": 1}])
def test_filters_at_their_limits_leave_the_most_likely_patch(settings, generator):
    logits = torch.randn(32, 256, generator=generator)
    greedy = sample_patch(logits, SamplingConfig(0.0))
    assert torch.equal(sample_patch(logits, SamplingConfig(**settings)), greedy)


@pytest.mark.parametrize("settings", [{"top_p": 1.0}, {"min_p": 0.0}, {"top_k": 10**30}])
def test_filters_that_keep_all_draw_from_the_whole_distribution(settings, generator):
    log_p = patch_log_probabilities(torch.randn(32, 256, generator=generator))
    drawn = draw_patch(log_p, SamplingConfig(**settings), None, seeded(1))
    assert torch.equal(drawn, draw_patch(log_p, SamplingConfig(), None, seeded(1)))


@pytest.mark.parametrize("temperature", [math.inf, math.nan, -0.5, 1e9])
def test_a_temperature_outside_its_limits_is_refused(temperature):
    with pytest.raises(ConfigError, match=r"temperature must be in \[0, 1000\], got"):
        SamplingConfig(temperature)


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_a_seed_outside_its_limits_is_refused(seed):
    with pytest.raises(ConfigError, match=f"from 0 to 9223372036854775807, got {seed}"):
        seeded(seed)


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 0.0}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}],
)
def test_nothing_is_drawn_from_predictions_that_are_not_numbers(settings):
    logits = torch.zeros(2, 256)
    logits[1] = math.nan
    with pytest.raises(InvalidPredictionError, match="the model's weights are damaged"):
        sample_patch(logits, SamplingConfig(**settings))


def test_nothing_is_drawn_when_all_that_is_allowed_is_impossible():
    logits = torch.full((1, 256), math.inf)
    allowed = torch.arange(256)[None] < 128
    for temperature in (0.0, 1.0):
        with pytest.raises(InvalidPredictionError):
            sample_patch(logits, SamplingConfig(temperature), allowed)


def test_each_row_has_its_own_random_number():
    cpu = torch.device("cpu")
    batch = uniform_numbers(5, seeded(7), 0, cpu)
    alone = [uniform_numbers(1, seeded(7), row, cpu) for row in range(5)]
    assert torch.equal(batch, torch.cat(alone))
    assert torch.equal(batch[:1], torch.rand(1, dtype=torch.float64, generator=seeded(7)))


def test_the_numbers_of_many_rows_are_even_and_independent():
    source, cpu = seeded(0), torch.device("cpu")
    drawn = torch.stack([uniform_numbers(64, source, 0, cpu) for _ in range(4000)])
    assert ((drawn >= 0) & (drawn < 1)).all()
    counts = torch.histc(drawn, 16, 0, 1) / drawn.numel()
    assert (counts * 16 - 1).abs().max() < 0.04
    assert (torch.corrcoef(drawn.T) - torch.eye(64)).abs().max() < 0.08


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_16_bits_are_drawn_from_in_32(dtype, generator):
    logits = torch.randn(64, 256, generator=generator).to(dtype)
    for settings in ({}, {"temperature": 0.5}):
        config = SamplingConfig(**settings)
        drawn = sample_patch(logits, config, None, seeded(2))
        assert torch.equal(drawn, sample_patch(logits.float(), config, None, seeded(2)))
