"""The likelihood is the same in one pass, in windows with a cache, and bit by bit."""

import pytest
import torch

from bit_transformer.errors import ContextLengthError
from bit_transformer.inference.native_step import NativeStep
from bit_transformer.inference.predictor import Predictor
from bit_transformer.model.attention import full_attention
from tests.builders import STACKS, tiny_model


def _in_pieces(model, bits, lengths):
    predictor = Predictor(model.network, len(bits))
    pieces = [predictor.read(piece) for piece in bits.split(lengths, dim=1)]
    return torch.cat(pieces, dim=1)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("batch", [1, 2], ids=["compiled step", "network step"])
@pytest.mark.parametrize("patch_size", [1, 2, 4, 8, 9, 12])
def test_any_cut_gives_the_likelihood_of_one_pass(patch_size, batch, stack, generator):
    model = tiny_model(patch_size=patch_size, stack=stack)
    length = 6 * patch_size + patch_size // 2
    bits = torch.randint(0, 2, (batch, length), generator=generator)
    whole = model.log2_likelihood(bits).detach()
    bit_by_bit = _in_pieces(model, bits, [1] * length)
    uneven = [patch_size + 1, 1, 2 * patch_size]
    windows = _in_pieces(model, bits, [*uneven, length - sum(uneven)])
    # The documented tolerance is 1e-4 bits per byte. These values are in bits per bit.
    torch.testing.assert_close(bit_by_bit, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(windows, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [1, 2], ids=["compiled step", "network step"])
def test_beyond_the_context_the_cut_still_does_not_matter(batch, generator):
    model = tiny_model(max_seq_len=64)
    bits = torch.randint(0, 2, (batch, 64 * 5 + 3), generator=generator)
    whole = _in_pieces(model, bits, [bits.shape[1]])
    bit_by_bit = _in_pieces(model, bits, [1] * bits.shape[1])
    torch.testing.assert_close(bit_by_bit, whole, atol=1e-5, rtol=0)
    assert torch.isfinite(whole).all()


def test_a_full_context_starts_over_from_its_newest_half(generator):
    model = tiny_model(max_seq_len=64)
    bits = torch.randint(0, 2, (1, 80), generator=generator)
    # The full context scores the ninth patch. Its newest half scores the patches after that.
    read = _in_pieces(model, bits, [72, 8])[:, 72:]
    expected = model.log2_likelihood(bits[:, 32:])[:, 40:].detach()
    torch.testing.assert_close(read, expected, atol=1e-5, rtol=0)


def test_more_than_the_context_is_one_clear_error(generator):
    model = tiny_model(max_seq_len=64)
    with pytest.raises(ContextLengthError, match="holds 64 bits, got 65"):
        model.log2_likelihood(torch.zeros(1, 65, dtype=torch.int64))
    with pytest.raises(ContextLengthError, match="got 10 patches"):
        model.network(torch.zeros(1, 10, dtype=torch.int64))


def test_a_refused_call_leaves_the_cache_as_it_was():
    network = tiny_model(max_seq_len=64).network
    cache = network.new_cache(1)
    network(torch.zeros(1, 3, dtype=torch.int64), cache)
    before = (cache.length, cache.recent.clone())
    with pytest.raises(ContextLengthError):
        network(torch.zeros(1, 7, dtype=torch.int64), cache)
    assert cache.length == before[0]
    assert torch.equal(cache.recent, before[1])


def test_what_the_compiled_step_does_not_cover_runs_on_the_network():
    assert all(NativeStep.supports(tiny_model(stack=stack).network) for stack in STACKS)
    assert not NativeStep.supports(tiny_model().double().network)
    assert not NativeStep.supports(tiny_model().train().network)
    swapped = tiny_model().network
    swapped.attention_kernel = lambda *inputs: full_attention(*inputs)
    assert not NativeStep.supports(swapped)
    swapped = tiny_model().network
    swapped.stack.blocks[0].feed_forward.up_proj = torch.nn.Identity()
    assert not NativeStep.supports(swapped)
