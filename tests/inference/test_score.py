"""Scoring counts every byte once, for any windows."""

import numpy as np
import pytest
import torch

from bit_transformer.errors import ConfigError, SourceError
from bit_transformer.inference.baselines import COMPRESSORS, compressed_bits_per_byte
from bit_transformer.inference.painting import paint
from bit_transformer.inference.score import Score
from tests.builders import tiny_model

DATA = bytes(np.random.default_rng(0).integers(0, 256, 301, dtype=np.uint8))


def _bits(data, parity=False):
    from bit_transformer.bits.codec import bytes_to_bits

    return torch.from_numpy(bytes_to_bits(data, parity=parity))[None]


@pytest.mark.parametrize("patch_size", [1, 8, 12])
def test_data_within_the_context_costs_its_code_length(patch_size):
    model = tiny_model(patch_size=patch_size, max_seq_len=2416)
    score = model.score(DATA)
    expected = -model.log2_likelihood(_bits(DATA)).view(1, -1, 8).sum(-1)[0].detach().numpy()
    np.testing.assert_allclose(score.surprisal, expected, atol=1e-4)
    assert score.bits_per_byte == pytest.approx(float(expected.mean()))


def test_parity_models_score_data_bytes():
    model = tiny_model(patch_size=9, parity=True, max_seq_len=900)
    score = model.score(DATA[:100])
    expected = -model.log2_likelihood(_bits(DATA[:100], parity=True)).sum().item() / 100
    assert score.bits_per_byte == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("window", "overlap"), [(40, 0), (40, 20), (64, 1), (128, 127), (301, 5)])
def test_each_byte_is_scored_from_its_window(window, overlap):
    model = tiny_model(max_seq_len=2416)
    score = model.score(DATA, window_bytes=window, overlap_bytes=overlap)
    assert score.surprisal.shape == (301,)
    stride = window - overlap
    for position in (0, 1, window - 1, window, 150, 299, 300):
        index = 0 if position < window else -(-(position - window + 1) // stride)
        start = index * stride
        piece = DATA[start : position + 1]
        expected = -model.log2_likelihood(_bits(piece))[0, -8:].sum().item()
        assert position >= 301 or score.surprisal[position] == pytest.approx(expected, abs=1e-4)


def test_bad_requests():
    model = tiny_model(max_seq_len=512)
    with pytest.raises(SourceError, match="0 bytes given"):
        model.score(b"")
    with pytest.raises(ConfigError, match="1 to 64 bytes to fit the context, got 65"):
        model.score(DATA, window_bytes=65)
    with pytest.raises(ConfigError, match=r"overlap must be in \[0, 64\) bytes, got 64"):
        model.score(DATA, overlap_bytes=64)


def test_compressors_are_counted_whole():
    text = b"to be or not to be, that is the question\n" * 40
    found = compressed_bits_per_byte(text)
    assert len(found) == len(COMPRESSORS)
    assert all(0 < bits < 2 for bits in found.values())
    assert compressed_bits_per_byte(DATA, ["gzip"])["gzip -9"] > 8
    with pytest.raises(ConfigError, match="no compressor named 'rar'"):
        compressed_bits_per_byte(text, ["rar"])
    with pytest.raises(SourceError):
        compressed_bits_per_byte(b"")


def test_a_painting_shows_every_byte_and_runs_nothing():
    data = "<b>é</b>\n\x00".encode() + b"\xff" + "€".encode()[:2]
    surprisal = np.linspace(0, 20, len(data), dtype=np.float32)
    page = paint(data, Score(surprisal, 64, 32), name="<file>")
    assert "<b>" not in page
    assert "&lt;file&gt;" in page
    assert "<script" not in page
    assert page.count('<span class="s') - 12 == len(data) - 1
    for shown in (">&lt;<", ">é<", "<i>00</i>", "<i>ff</i>", "<i>e2</i>", "<i>82</i>"):
        assert shown in page
    assert f"{surprisal.mean():.3f} bits per byte" in page
