"""Chunked attention equals masked full attention, and a single chunk is full attention."""

import pytest
import torch

from bit_transformer import BitTransformerLM, Predictor
from bit_transformer.errors import ConfigError, ContextLengthError, UnsupportedCombination
from bit_transformer.model.attention import MaskRule, chunked_attention, full_attention
from tests.builders import STACKS, tiny_model

RULES = [MaskRule(chunk=chunk, overlap=overlap) for chunk in (1, 3, 8) for overlap in range(chunk)]


def _heads(positions, generator):
    return torch.randn(3, 2, 3, positions, 4, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("positions", [1, 2, 4, 5, 9, 10, 24, 25])
def test_chunks_equal_the_mask_that_defines_them(rule, positions, generator):
    q, k, v = _heads(positions, generator)
    at = torch.arange(positions)
    scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~rule.allowed(at, at), -torch.inf)
    expected = scores.softmax(-1) @ v
    torch.testing.assert_close(chunked_attention(q, k, v, rule), expected)
    torch.testing.assert_close(full_attention(q, k, v, rule), expected)


def test_a_chunk_that_covers_the_sequence_is_full_attention(generator):
    bits = torch.randint(0, 2, (2, 256), generator=generator)
    plain = tiny_model(max_seq_len=256).double()
    chunked = tiny_model(max_seq_len=256, chunk_size=256, overlap=64).double()
    assert torch.equal(chunked.log2_likelihood(bits), plain.log2_likelihood(bits))


def test_gradients_are_those_of_the_mask(generator):
    rule = MaskRule(chunk=4, overlap=3)
    inputs = _heads(17, generator).requires_grad_()
    weight = torch.randn(2, 3, 17, 4, dtype=torch.float64, generator=generator)
    (found,) = torch.autograd.grad((chunked_attention(*inputs, rule) * weight).sum(), inputs)
    (expected,) = torch.autograd.grad((full_attention(*inputs, rule) * weight).sum(), inputs)
    torch.testing.assert_close(found, expected)


def test_without_causality_everything_is_seen_and_the_chunks_are_back_afterwards(generator):
    bits = torch.randint(0, 2, (1, 96), generator=generator)
    plain = tiny_model()
    chunked = tiny_model(chunk_size=16, overlap=8)
    before = chunked(bits)[0]
    assert torch.equal(chunked(bits, causal=False)[0], plain(bits, causal=False)[0])
    assert torch.equal(chunked(bits)[0], before)
    flipped = bits.clone()
    flipped[0, -1] ^= 1
    late = plain(flipped, causal=False)[0] - plain(bits, causal=False)[0]
    assert late[0, 0].abs().max() > 0


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("batch", [1, 2], ids=["compiled step", "network step"])
@pytest.mark.parametrize("overlap", [0, 8, 24])
def test_a_sliding_cache_equals_one_pass_of_any_length(overlap, batch, stack, generator):
    settings = {"chunk_size": 32, "overlap": overlap, "stack": stack}
    whole = tiny_model(max_seq_len=1024, **settings)
    short = tiny_model(max_seq_len=64, **settings)
    bits = torch.randint(0, 2, (batch, 801), generator=generator)
    expected = whole.log2_likelihood(bits).detach()
    for cut in (801, 7, 8, 100):
        predictor = Predictor(short.network, batch)
        pieces = [predictor.read(piece) for piece in bits.split(cut, dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected, atol=1e-5, rtol=0)


def test_a_sliding_cache_keeps_its_size():
    network = tiny_model(max_seq_len=512, chunk_size=64, overlap=32).network
    cache = network.new_cache(1)
    network(torch.zeros(1, 8, dtype=torch.int64), cache)
    stores = [layer.keys.shape for layer in cache.layers]
    for _ in range(5):
        cache.slide(network.rotary)
        network(torch.zeros(1, cache.room, dtype=torch.int64), cache)
    assert [layer.keys.shape for layer in cache.layers] == stores
    with pytest.raises(ContextLengthError, match="room for 0 more patches, got 1"):
        network(torch.zeros(1, 1, dtype=torch.int64), cache)


def test_a_cache_is_refused_without_causality():
    network = tiny_model().network
    with pytest.raises(UnsupportedCombination, match="causal=True"):
        network(torch.zeros(1, 1, dtype=torch.int64), network.new_cache(1), causal=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_size": 2048}, "chunk_size must be at most max_seq_len=1024 bits, got 2048"),
        ({"chunk_size": 64, "overlap": 64}, "overlap must be below chunk_size, got 64 and 64"),
        ({"chunk_size": 60}, "whole patches of 8 bits, at least 1, got 60 bits; try 64"),
        ({"chunk_size": 4}, "at least 1, got 4 bits; try 8"),
        ({"chunk_size": 64, "overlap": -8}, "overlap must be whole patches"),
        ({"overlap": 8}, "overlap=8 needs a chunk_size"),
    ],
)
def test_chunks_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        BitTransformerLM(max_seq_len=1024, **settings)
