"""Tests of the mixing predictor: its code length, its probabilities and its limits."""

import pytest
import torch

from bit_transformer import MixingPredictor, bytes_to_bits, encode
from bit_transformer.errors import ContextLengthError, InvalidBitsError

_TEXT = b"in mixing, many weak opinions make a strong one; in mixing, many weak opinions " * 4


def _bits(data: bytes = _TEXT) -> torch.Tensor:
    return torch.from_numpy(bytes_to_bits(data))[None]


def test_its_code_length_is_the_compressed_size():
    code_bits = -float(MixingPredictor(len(_TEXT)).read(_bits()).sum())
    # A block adds its header, the header of its segment, and its row in the end record.
    overhead = len(encode(None, b"")) + 24 + 12 + 8
    assert code_bits / 8 == pytest.approx(len(encode(None, _TEXT)) - overhead, abs=4)


def test_the_split_into_calls_changes_nothing():
    whole = MixingPredictor(4000).read(_bits())
    predictor = MixingPredictor(4000)
    pieces = [predictor.read(piece) for piece in torch.split(_bits(), 37, dim=1)]
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_no_prediction_depends_on_a_later_bit():
    bits, at = _bits(), 1001
    changed = bits.clone()
    changed[0, at] ^= 1
    first, second = (MixingPredictor(4000).read(row) for row in (bits, changed))
    assert torch.equal(first[0, :at], second[0, :at])
    assert 2.0 ** first[0, at] + 2.0 ** second[0, at] == pytest.approx(1, abs=1e-6)
    assert not torch.equal(first[0, at + 1 :], second[0, at + 1 :])


def test_the_next_probability_is_the_one_that_reading_returns():
    predictor = MixingPredictor(4000)
    predictor.read(_bits()[:, :500])
    bit = int(_bits()[0, 500])
    expected = predictor.probability() if bit else 1 - predictor.probability()
    assert float(2.0 ** predictor.read(_bits()[:, 500:501])[0, 0]) == pytest.approx(expected)
    assert predictor.length == 501


def test_its_limits_are_errors():
    predictor = MixingPredictor(10)
    with pytest.raises(ContextLengthError, match="room for 10 bytes"):
        predictor.read(_bits())
    assert predictor.length == 0
    for value in (-1, 2, 127):
        with pytest.raises(InvalidBitsError, match=f"is {value}, but must be 0 or 1"):
            predictor.read(torch.full((1, 8), value))
    predictor.read(_bits()[:, :80])
    with pytest.raises(ContextLengthError, match="room for 10 bytes"):
        predictor.probability()
    assert predictor.read(_bits()[:, :0]).shape == (1, 0)
    with pytest.raises(InvalidBitsError, match="one sequence"):
        MixingPredictor(10).read(torch.zeros(2, 8, dtype=torch.uint8))
