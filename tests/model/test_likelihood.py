"""The tree follows the chain rule. Patch probabilities sum to one, and code lengths add up."""

import itertools
import math

import pytest
import torch

from bit_transformer.inference.sampling import patch_log_probabilities
from bit_transformer.model.bit_tree import patch_bits, patch_values, path_logits, path_nodes
from bit_transformer.objectives.causal import next_bit_loss
from tests.builders import tiny_model


@pytest.mark.parametrize("patch_size", [1, 3, 8, 12])
def test_patches_and_bits_are_inverse(patch_size, generator):
    bits = torch.randint(0, 2, (3, 5 * patch_size), generator=generator, dtype=torch.uint8)
    values = patch_values(bits, patch_size)
    assert values.min() >= 0
    assert values.max() < 2**patch_size
    assert torch.equal(patch_bits(values, patch_size), bits)


def test_the_path_of_a_patch_visits_the_nodes_of_its_prefixes():
    # The root is node 1. Prefix "1" is node 2**1 + 1, and prefix "10" is node 2**2 + 2.
    assert path_nodes(torch.tensor([[0b101]]), 3).tolist() == [[[1, 3, 6]]]


@pytest.mark.parametrize("patch_size", [1, 2, 5, 8])
def test_patch_probabilities_sum_to_one_and_equal_their_paths(patch_size, generator):
    logits = torch.randn(3, 2**patch_size, generator=generator, dtype=torch.float64) * 3
    log_p = patch_log_probabilities(logits)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3, dtype=torch.float64))
    for value in range(2**patch_size):
        patch = torch.full((3, 1), value)
        ones = path_logits(logits[:, None], patch, patch_size)[:, 0]
        signs = patch_bits(patch, patch_size).to(ones.dtype) * 2 - 1
        path = torch.nn.functional.logsigmoid(ones * signs).sum(-1)
        torch.testing.assert_close(log_p[:, value], path)


@pytest.mark.parametrize("patch_size", [1, 2, 3])
def test_all_sequences_of_a_length_have_total_probability_one(patch_size):
    model = tiny_model(patch_size=patch_size).double()
    length = 2 * patch_size + 1
    bits = torch.tensor(list(itertools.product((0, 1), repeat=length)))
    total = model.log2_likelihood(bits).sum(-1).exp2().sum()
    assert total.item() == pytest.approx(1, abs=1e-9)


def test_logits_and_likelihood_tell_the_same(generator):
    model = tiny_model()
    bits = torch.randint(0, 2, (2, 40), generator=generator)
    logits, _ = model(bits)
    assert logits.shape == (2, 40, 2)
    chosen = logits.log_softmax(-1)[:, :-1].gather(-1, bits[:, 1:, None])[..., 0] / math.log(2)
    torch.testing.assert_close(chosen, model.log2_likelihood(bits)[:, 1:])


def test_the_loss_is_the_code_length_in_bits_per_byte(generator):
    model = tiny_model()
    bits = torch.randint(0, 2, (3, 72), generator=generator)
    code_length = -model.log2_likelihood(bits).sum() / (3 * 72 / 8)
    torch.testing.assert_close(next_bit_loss(model.network, bits), code_length)


def test_an_untrained_model_costs_eight_bits_per_byte(generator):
    model = tiny_model()
    torch.nn.init.zeros_(model.network.head.nodes)
    bits = torch.randint(0, 2, (2, 80), generator=generator)
    assert next_bit_loss(model.network, bits).item() == pytest.approx(8)


def test_parity_bits_cost_nothing_and_are_not_counted(generator):
    model = tiny_model(patch_size=9, parity=True)
    data = torch.randint(0, 2, (2, 7, 8), generator=generator)
    parity = data.sum(-1, keepdim=True) % 2
    bits = torch.cat((data, parity), dim=-1).flatten(1)
    log2_p = model.log2_likelihood(bits).view(2, 7, 9)
    assert log2_p[..., 8].abs().max() < 1e-12
    torch.testing.assert_close(next_bit_loss(model.network, bits), -log2_p[..., :8].sum() / 14)
    bits[0, 8] ^= 1
    assert model.log2_likelihood(bits)[0, 8] < -50
