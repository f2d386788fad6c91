"""Patches are drawn from the distribution that the node logits describe."""

import pytest
import torch

from bit_transformer.inference.sampling import (
    SamplingConfig,
    draw_patch,
    patch_log_probabilities,
    sample_patch,
)


@pytest.mark.parametrize("patch_size", [1, 4, 8, 12])
def test_walking_down_the_tree_inverts_the_same_distribution_function(patch_size, generator):
    logits = 3 * torch.randn(64, 2**patch_size, generator=generator)
    walked = sample_patch(logits, SamplingConfig(), None, torch.Generator().manual_seed(1))
    log_p = patch_log_probabilities(logits.double())
    drawn = draw_patch(log_p, SamplingConfig(), None, torch.Generator().manual_seed(1))
    # A random number at the very edge of a patch may fall on either side of it.
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
