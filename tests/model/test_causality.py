"""No logit depends on a later bit. Flips and gradients show it for every architecture."""

import pytest
import torch

from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.attention import MaskRule
from tests.builders import ATTENTION_PATCHES, STACKS, tiny_model

PATCH_SIZES = [1, 2, 4, 8, 9, 12]


@pytest.mark.parametrize("attention", ATTENTION_PATCHES)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_a_flip_changes_nothing_before_it(patch_size, stack, attention, generator):
    model = tiny_model(patch_size=patch_size, stack=stack, attention=attention).double()
    # The number of active positions changes the shape of a matrix product, and so its rounding.
    rounding = 1e-12 if stack == "halting" else 0
    # One more bit follows the whole patches, so the sequence ends inside a patch.
    bits = torch.randint(0, 2, (1, 4 * patch_size + 1), generator=generator)
    before, _ = model(bits)
    for t in range(bits.shape[1]):
        flipped = bits.clone()
        flipped[0, t] ^= 1
        after, _ = model(flipped)
        torch.testing.assert_close(after[:, :t], before[:, :t], atol=rounding, rtol=0)
        assert (after[:, t:] - before[:, t:]).abs().max() > 1e-6


def _within_reach(config, positions):
    """Return which positions each position can read through all layers.

    Position 0 is the start, and position n has read n patches.
    """
    at = torch.arange(positions)
    chunk = None if config.chunk_size is None else config.chunk_patches
    one_layer = MaskRule(chunk=chunk, overlap=config.overlap_patches).allowed(at, at)
    assert torch.equal(one_layer, one_layer.tril())
    return torch.linalg.matrix_power(one_layer.double(), config.num_layers) > 0


@pytest.mark.parametrize("attention", ATTENTION_PATCHES)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_no_gradient_flows_back_from_a_logit_to_a_later_patch(
    patch_size, stack, attention, generator
):
    model = tiny_model(patch_size=patch_size, stack=stack, attention=attention)
    patches = torch.randint(0, 2**patch_size, (1, 6), generator=generator)
    embedded = model.network.embedding(patches).detach().requires_grad_()
    model.network.embedding.forward = lambda *_: embedded  # type: ignore[method-assign]
    logits = model.network(patches)
    within_reach = _within_reach(model.config, logits.shape[1])
    for position in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(
            logits[0, position, 1:].sum(), embedded, retain_graph=True, allow_unused=True
        )
        reached = gradient[0].abs().sum(-1) > 0
        assert (reached <= within_reach[position, 1:]).all()
        # Positions that stop early may read less than they are allowed to.
        assert stack == "halting" or torch.equal(reached, within_reach[position, 1:])


@pytest.mark.parametrize("patch_size", PATCH_SIZES)
def test_the_likelihood_of_a_prefix_does_not_depend_on_what_follows(patch_size, generator):
    model = tiny_model(patch_size=patch_size)
    bits = torch.randint(0, 2, (2, 5 * patch_size), generator=generator)
    whole = model.log2_likelihood(bits)
    for length in (1, patch_size, patch_size + 1, 3 * patch_size - 1):
        torch.testing.assert_close(model.log2_likelihood(bits[:, :length]), whole[:, :length])


def test_the_builders_give_models_whose_weights_all_matter():
    # Zero-initialised outputs would make every causality test pass.
    model: BitTransformerLM = tiny_model()
    assert all(weight.abs().sum() > 0 for weight in model.parameters())
