import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.bits.run_length import (
    compress_bits,
    decompress_bits,
    model_output_decompress,
)
from bit_transformer.errors import InvalidBitsError

runs = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 600)), max_size=12)
bit_arrays = runs.map(
    lambda pairs: np.concatenate(
        [np.zeros(0, np.uint8), *[np.full(n, v, np.uint8) for v, n in pairs]]
    )
)


@given(bit_arrays)
def test_round_trip_and_shape_of_the_stream(bits):
    stream = compress_bits(bits)
    assert stream.dtype == np.uint8
    assert decompress_bits(stream).tolist() == bits.tolist()
    values, lengths = stream[::2], stream[1::2]
    # Runs are maximal, so two pieces of one value follow each other only after a length of 255.
    same = values[1:] == values[:-1]
    assert (lengths[:-1][same] == 255).all()
    assert (lengths > 0).all()


@pytest.mark.parametrize(
    ("bits", "stream"),
    [
        ([], []),
        ([1], [1, 1]),
        ([0, 0, 1, 1, 1, 0], [0, 2, 1, 3, 0, 1]),
        ([1] * 255, [1, 255]),
        ([1] * 256, [1, 255, 1, 1]),
        ([0] * 510 + [1], [0, 255, 0, 255, 1, 1]),
    ],
)
def test_exact_streams(bits, stream):
    assert compress_bits(bits).tolist() == stream
    assert decompress_bits(stream).tolist() == bits


def test_a_decoder_accepts_runs_that_could_be_joined():
    assert decompress_bits([1, 2, 1, 3]).tolist() == [1] * 5
    assert decompress_bits(bytes([1, 2, 0, 1])).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ([0, 3, 1], "index 2 has no run"),
        ([0, 3, 2, 1], "value at index 2 of the stream is 2"),
        ([0, 3, 1, 0], r"run at index 3 of the stream is 0, but must be 1\.\.255"),
        ([0, 3, 7, 0], "value at index 2"),
        ([0, 256], "byte 1 is 256"),
        ([0, -1], "byte 1 is -1"),
    ],
)
def test_a_broken_stream_names_where_it_breaks(stream, message):
    with pytest.raises(InvalidBitsError, match=message):
        decompress_bits(stream)
    with pytest.raises(InvalidBitsError, match=message):
        model_output_decompress([[0, 1], stream])


def test_compression_refuses_what_is_not_bits():
    with pytest.raises(InvalidBitsError, match="bit 2 is 2"):
        compress_bits([0, 1, 2])


@pytest.mark.parametrize(
    ("streams", "expected"),
    [
        ([0, 2, 1, 1], [[0, 0, 1]]),
        (np.array([0, 2, 1, 1], np.uint8), [[0, 0, 1]]),
        (np.array([[0, 2], [1, 1]], np.uint8), [[0, 0], [1]]),
        ([np.array([0, 2], np.uint8), np.array([1, 1, 0, 1], np.uint8)], [[0, 0], [1, 0]]),
        ([[0, 2], [1, 1, 0, 1], []], [[0, 0], [1, 0], []]),
        (torch.tensor([[0, 2], [1, 1]], dtype=torch.uint8), [[0, 0], [1]]),
        ([], []),
        (np.zeros(0, np.uint8), [[]]),
    ],
)
def test_one_stream_or_a_batch(streams, expected):
    assert [bits.tolist() for bits in model_output_decompress(streams)] == expected
