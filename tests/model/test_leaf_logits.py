"""Tests of a head with leaves: alone they are a softmax, and nodes and leaves add up."""

import pytest
import torch

from bit_transformer import ModelConfig
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import patch_log_probabilities
from bit_transformer.model.bit_tree import BitTreeHead, subtree_log_odds
from bit_transformer.model.flops import matrix_parameters
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.transformer import BitTransformer
from tests.builders import tiny_model


def test_the_log_odds_are_those_of_the_softmax(generator):
    leaves = torch.randn(3, 16, dtype=torch.float64, generator=generator) * 5
    found = subtree_log_odds(leaves)
    for node in range(1, 16):
        depth = node.bit_length() - 1
        width = 16 >> depth
        first = (node - (1 << depth)) * width
        below = leaves[:, first : first + width].logsumexp(-1, keepdim=True)
        halves = (leaves[:, first : first + width] - below).exp().unflatten(-1, (2, -1)).sum(-1)
        torch.testing.assert_close(found[:, node], torch.log(halves[:, 1] / halves[:, 0]))


def test_the_gradient_is_right(generator):
    leaves = torch.randn(2, 3, 8, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: subtree_log_odds(x)[..., 1:], leaves)


def test_far_apart_leaves_stay_finite():
    leaves = torch.tensor([[1e4, -1e4, 300.0, 299.0, 0.0, 0.0, -500.0, -1e4]], requires_grad=True)
    found = subtree_log_odds(leaves)
    found[:, 1:].sum().backward()
    assert found.isfinite().all()
    assert leaves.grad.isfinite().all()


@pytest.mark.parametrize("parity", [False, True])
def test_leaves_alone_are_a_softmax_over_the_values(parity, generator):
    patch_size = 9 if parity else 8
    head = BitTreeHead(patch_size, 16, parity=parity, leaf_logits=True)
    torch.nn.init.normal_(head.leaves)
    x = torch.randn(1, 5, 16, generator=generator)
    expected = (rms_norm(x) @ head.leaves.T).log_softmax(-1)[0]
    found = patch_log_probabilities(head(x)[0])
    if parity:
        value = torch.arange(256)
        ones = sum((value >> place) & 1 for place in range(8)) % 2
        found = found[:, 2 * value + ones]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_untrained_network_costs_eight_bits():
    network = BitTransformer(ModelConfig(d_model=16, nhead=2, num_layers=1, leaf_logits=True))
    assert not network(torch.randint(0, 256, (1, 4))).any()


def test_without_leaves_nothing_is_added():
    plain, with_leaves = tiny_model(), tiny_model(leaf_logits=True)
    with torch.no_grad():
        with_leaves.network.head.leaves.zero_()
    missing = with_leaves.network.load_state_dict(plain.network.state_dict(), strict=False)
    assert missing.missing_keys == ["head.leaves"]
    bits = torch.randint(0, 2, (2, 80))
    assert torch.equal(plain.log2_likelihood(bits), with_leaves.log2_likelihood(bits))
    assert matrix_parameters(with_leaves.config) - matrix_parameters(plain.config) == 256 * 16


@pytest.mark.parametrize("settings", [{}, {"logit_cap": 3.0}, {"patch_size": 9, "parity": True}])
def test_the_compiled_step_is_the_network(settings, generator):
    model = tiny_model(leaf_logits=True, **settings)
    bits = torch.randint(0, 2, (1, 90), generator=generator)
    predictor = Predictor(model.network)
    pieces = [predictor.read(piece) for piece in bits.split(1, dim=1)]
    whole = model.log2_likelihood(bits).detach()
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-4, rtol=0)
