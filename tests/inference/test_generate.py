"""Tests of generation: exact distributions, filters, seeds, constraints and prompts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.bits.codec import bits_to_bytes, bytes_to_bits
from bit_transformer.errors import ConfigError, DecodeError, InvalidBitsError
from bit_transformer.inference.constraints import DEAD, START, decodable
from bit_transformer.inference.generate import generate_bits, stream_bits
from bit_transformer.inference.predictor import Predictor
from bit_transformer.inference.sampling import (
    SamplingConfig,
    draw_patch,
    patch_log_probabilities,
)
from tests.builders import tiny_model

NOTHING = torch.zeros(1, 0, dtype=torch.uint8)


def test_samples_follow_the_likelihood_of_the_model():
    model = tiny_model(patch_size=2)
    prompt = torch.tensor([[1, 0, 1]]).expand(20_000, -1)
    drawn = model.generate(prompt, 3, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount((drawn[:, 3:].long() * torch.tensor([4, 2, 1])).sum(-1), minlength=8)
    every = torch.tensor([[1, 0, 1, *map(int, f"{value:03b}")] for value in range(8)])
    expected = model.log2_likelihood(every)[:, 3:].sum(-1).exp2()
    deviation = (counts / 20_000 - expected).abs() / (expected * (1 - expected) / 20_000).sqrt()
    assert deviation.max() < 4.5


def test_the_same_seed_gives_the_same_sample_and_another_another():
    model = tiny_model()
    draw = [
        model.generate(NOTHING, 80, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


@pytest.mark.parametrize("patch_size", [1, 3, 8])
@pytest.mark.parametrize("prompt_bits", [0, 1, 7, 8, 13])
def test_a_stream_yields_what_generate_returns(patch_size, prompt_bits, generator):
    model = tiny_model(patch_size=patch_size)
    prompt = torch.randint(0, 2, (2, prompt_bits), generator=generator)
    sampling = SamplingConfig(temperature=0.7)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    whole = generate_bits(model.network, prompt, 29, sampling, seeds[0])
    pieces = list(stream_bits(model.network, prompt, 29, sampling, seeds[1]))
    assert whole.shape == (2, prompt_bits + 29)
    assert torch.equal(whole[:, :prompt_bits], prompt.to(torch.uint8))
    assert torch.equal(torch.cat(pieces, dim=1), whole[:, prompt_bits:])
    assert all(piece.shape[1] <= patch_size for piece in pieces)


def test_greedy_takes_the_most_likely_patch_and_ignores_the_seed():
    model = tiny_model(patch_size=4)
    prompt = torch.tensor([[0, 1, 1, 0]])
    drawn = model.generate(prompt, 4, temperature=0)
    every = torch.tensor([[0, 1, 1, 0, *map(int, f"{value:04b}")] for value in range(16)])
    best = model.log2_likelihood(every).sum(-1).argmax()
    assert torch.equal(drawn[0], every[best].to(torch.uint8))


def _draws(probabilities, **filters):
    log_p = torch.tensor(probabilities).log().expand(4000, -1)
    seed = torch.Generator().manual_seed(0)
    return set(draw_patch(log_p, SamplingConfig(**filters), None, seed).flatten().tolist())


def test_filters_keep_the_right_patches():
    probabilities = [0.1, 0.4, 0.3, 0.2]
    assert _draws(probabilities) == {0, 1, 2, 3}
    assert _draws(probabilities, top_k=2) == {1, 2}
    assert _draws(probabilities, top_k=9) == {0, 1, 2, 3}
    assert _draws(probabilities, top_p=0.69) == {1, 2}
    assert _draws(probabilities, top_p=0.71) == {1, 2, 3}
    assert _draws(probabilities, top_p=0.01) == {1}
    assert _draws(probabilities, min_p=0.45) == {1, 2, 3}
    assert _draws(probabilities, min_p=1.0) == {1}


def test_temperature_sharpens_towards_the_most_likely():
    log_p = torch.tensor([0.4, 0.6]).log().expand(20_000, -1)
    drawn = draw_patch(
        log_p, SamplingConfig(temperature=0.5), None, torch.Generator().manual_seed(0)
    )
    assert drawn.float().mean().item() == pytest.approx(0.36 / (0.36 + 0.16), abs=0.015)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
    ],
)
def test_sampling_settings_outside_their_limits(settings):
    with pytest.raises(ConfigError):
        SamplingConfig(**settings)


@pytest.mark.parametrize("patch_size", [1, 3, 8, 12])
def test_valid_utf8_always_decodes(patch_size):
    model = tiny_model(patch_size=patch_size)
    prompt = torch.from_numpy(bytes_to_bits("é".encode()[:1]))[None].expand(12, -1)
    drawn = model.generate(
        prompt, 8 * 9, valid_utf8=True, generator=torch.Generator().manual_seed(0)
    )
    texts = [bits_to_bytes(row.numpy()).decode() for row in drawn]
    assert len(set(texts)) == 12
    free = model.generate(prompt, 8 * 9, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UnicodeDecodeError):
        [bits_to_bytes(row.numpy()).decode() for row in free]


@pytest.mark.parametrize("valid_utf8", [True, False])
def test_parity_is_always_right(valid_utf8):
    model = tiny_model(patch_size=9, parity=True)
    prompt = torch.from_numpy(bytes_to_bits(b"ab", parity=True)[:13])[None].expand(6, -1)
    drawn = model.generate(prompt, 5 + 9 * 7, valid_utf8=valid_utf8)
    for row in drawn:
        content = bits_to_bytes(row.numpy(), parity=True)
        assert content[:1] == b"a"
        assert not valid_utf8 or content.decode()


def test_undecodable_requests_are_refused_before_the_first_draw():
    model = tiny_model(max_seq_len=64)
    euro = torch.from_numpy(bytes_to_bits("€".encode()[:1]))[None]
    with pytest.raises(ConfigError, match="no decodable sequence ends 8 bits after prompt 0"):
        model.generate(euro, 8, valid_utf8=True)
    with pytest.raises(ConfigError, match="ends 12 bits"):
        model.generate(euro, 12, valid_utf8=True)
    bad = torch.from_numpy(bytes_to_bits(b"a\xff"))[None]
    with pytest.raises(DecodeError, match="byte 1 is wrong") as caught:
        model.generate(bad, 8, valid_utf8=True)
    assert caught.value.byte_index == 1
    with pytest.raises(ConfigError, match="max_new_bits must be at least 0, got -1"):
        model.generate(NOTHING, -1)


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        (torch.tensor([[0, 1, 2]]), "must be 0 or 1, got 2 in row 0 at 2"),
        (torch.tensor([[0, -1]]), "got -1 in row 0 at 1"),
        (torch.tensor([0, 1]), r"shape \(batch, length\)"),
        (torch.tensor([[0.0, 1.0]]), "integer tensor"),
    ],
)
def test_invalid_bits_are_refused(bits, message):
    model = tiny_model()
    # The check is called directly, because run-time type checks would refuse the arguments first.
    with pytest.raises(InvalidBitsError, match=message):
        model._check_bits(bits)


def test_generation_continues_beyond_the_context():
    model = tiny_model(max_seq_len=64)
    drawn = model.generate(NOTHING, 64 * 4, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (1, 256)


def test_zero_new_bits_return_the_prompt():
    prompt = torch.tensor([[1, 0, 1]])
    assert torch.equal(tiny_model().generate(prompt, 0), prompt.to(torch.uint8))


def test_generate_leaves_the_mode_of_the_model():
    model = tiny_model(dropout=0.5)
    model.train()
    model.generate(NOTHING, 8)
    assert model.training


@given(st.text(min_size=1, max_size=20))
def test_the_utf8_automaton_accepts_every_text(text):
    assert _final_state(bytes_to_bits(text.encode())) == START


@given(st.binary(max_size=6))
def test_the_utf8_automaton_agrees_with_the_decoder(data):
    try:
        data.decode()
        decodes = True
    except UnicodeDecodeError:
        decodes = False
    assert (_final_state(bytes_to_bits(data)) == START) == decodes


def _final_state(bits):
    automaton = decodable(utf8=True, parity=False)
    state = np.array([START])
    for bit in bits:
        state = automaton.walk(state, np.array([bit]))
    return DEAD if state[0] == DEAD else state[0]


@pytest.mark.parametrize("settings", [{}, {"chunk_size": 32, "overlap": 16}])
def test_a_prompt_longer_than_the_context_is_read_to_its_end(settings, generator):
    model = tiny_model(max_seq_len=64, **settings)
    prompt = torch.randint(0, 2, (1, 300), generator=generator)
    at_once = model.generate(prompt, 64, temperature=0)
    predictor = Predictor(model.network)
    for piece in prompt.split(7, dim=1):
        predictor.read(piece)
    likeliest = []
    while len(likeliest) < 64:
        values = patch_log_probabilities(predictor.node_logits)
        known = "".join(str(int(bit)) for bit in predictor.prefix[0])
        fits = [f"{value:08b}".startswith(known) for value in range(256)]
        best = int(values.masked_fill(~torch.tensor(fits), -torch.inf).argmax())
        new = [int(bit) for bit in f"{best:08b}"[len(known) :]]
        predictor.read(torch.tensor([new]))
        likeliest += new
    assert at_once[0, 300:].tolist() == likeliest[:64]
