"""Tests of sequences longer than the context: predictions by window, scoring in pieces."""

import numpy as np
import pytest
import torch

from bit_transformer import infer_long_sequence
from bit_transformer.errors import ConfigError
from bit_transformer.inference.score import score_bytes, stream_surprisal
from tests.builders import tiny_model

CONTEXT = 256


@pytest.fixture
def model():
    return tiny_model(max_seq_len=CONTEXT)


def test_windows_join_to_one_prediction_of_every_bit(model, generator):
    bits = torch.randint(0, 2, (1000,), generator=generator)
    predicted, telemetry = infer_long_sequence(model, bits, ctx_bits=128, overlap_bits=32)
    assert predicted.shape == bits.shape
    assert len(telemetry) == 11
    assert all(0 <= float(metrics["negentropy_logits"]) <= 1 for metrics in telemetry)
    first, later = (model(bits[None, start : start + 128])[0][0].argmax(-1) for start in (0, 288))
    assert torch.equal(predicted[:128].long(), first)
    assert torch.equal(predicted[320:416].long(), later[32:])


def test_a_sequence_that_fits_the_context_is_one_window(model):
    bits = [0, 1] * 60
    predicted, telemetry = infer_long_sequence(model, bits)
    assert torch.equal(predicted.long(), model(torch.tensor([bits]))[0][0].argmax(-1))
    assert len(telemetry) == 1


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"ctx_bits": 4}, "ctx_bits must be whole patches of 8 bits, got 4; try 8"),
        ({"ctx_bits": 0}, "must be in .8, 256., from one patch to the context"),
        ({"ctx_bits": 512}, "must be in .8, 256."),
        ({"ctx_bits": 64, "overlap_bits": 64}, "below ctx_bits, got 64"),
        ({"overlap_bits": 9}, "overlap_bits must be whole patches"),
    ],
)
def test_invalid_windows_are_refused(model, windows, message):
    with pytest.raises(ConfigError, match=message):
        infer_long_sequence(model, [0] * 64, **windows)


@pytest.mark.parametrize("sizes", [[5000], [1, 4999], [700] * 7 + [100], [0, 31, 4969]])
@pytest.mark.parametrize(("window", "overlap"), [(32, 16), (32, 0), (20, 7)])
def test_scoring_in_pieces_is_scoring_at_once(model, sizes, window, overlap):
    data = np.random.default_rng(0).integers(0, 256, sum(sizes), dtype=np.uint8)
    settings = {"window_bytes": window, "overlap_bytes": overlap}
    pieces = np.split(data, np.cumsum(sizes)[:-1])
    found = np.concatenate(list(stream_surprisal(model.network, pieces, **settings)))
    # By definition, every window is scored on its own.
    expected, step = [], window - overlap
    for start in range(0, max(1, len(data) - overlap), step):
        alone = score_bytes(model.network, data[start : start + window], window_bytes=window)
        expected.append(alone.surprisal[overlap if start else 0 :])
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4)
