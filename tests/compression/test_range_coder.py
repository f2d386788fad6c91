"""Tests of the arithmetic coder alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.compression.range_coder import (
    CODE,
    HIGH,
    decode_bit,
    encode_bit,
    finish,
    new_coder,
    new_decoder,
)

_PROBABILITIES = st.integers(1, 65535) | st.sampled_from([1, 65535])


@given(st.lists(st.tuples(_PROBABILITIES, st.integers(0, 1)), max_size=400))
def test_bits_come_back(coded: list[tuple[int, int]]):
    coder, buffer = new_coder(), np.zeros(1000, np.uint8)
    for probability, bit in coded:
        encode_bit(coder, buffer, probability, bit)
    code = buffer[: finish(coder, buffer)].copy()
    decoder = new_decoder(code)
    assert [decode_bit(decoder, code, probability) for probability, _ in coded] == [
        bit for _, bit in coded
    ]


@given(_PROBABILITIES)
def test_the_boundary_between_zero_and_one_is_decoded_exactly(probability: int):
    coder, buffer = new_coder(), np.zeros(16, np.uint8)
    encode_bit(coder, buffer, probability, 1)
    # Some bytes have moved to the buffer. They and the end of the interval form the boundary.
    shifted = int(coder[3])
    end = int.from_bytes(
        bytes(buffer[:shifted]) + int(coder[HIGH]).to_bytes(6, "big")[: 6 - shifted]
    )
    for code, bit in ((end, 1), (end + 1, 0)):
        decoder = new_decoder(np.zeros(0, np.uint8))
        decoder[CODE] = code
        assert decode_bit(decoder, np.zeros(0, np.uint8), probability) == bit


def test_the_length_is_returned_when_the_buffer_is_too_small():
    lengths = []
    for size in (1000, 10):
        coder, buffer = new_coder(), np.zeros(size, np.uint8)
        for index in range(800):
            encode_bit(coder, buffer, 32768, index % 3 % 2)
        lengths.append(finish(coder, buffer))
    assert lengths[0] == lengths[1] > 10


def test_the_code_length_is_that_of_the_probabilities():
    probabilities = np.random.default_rng(0).integers(1, 65536, 20_000)
    bits = np.random.default_rng(1).random(len(probabilities)) < probabilities / 65536
    coder, buffer = new_coder(), np.zeros(10_000, np.uint8)
    for probability, bit in zip(probabilities.tolist(), bits.tolist(), strict=True):
        encode_bit(coder, buffer, probability, int(bit))
    had = np.where(bits, probabilities, 65536 - probabilities) / 65536
    ideal = -np.log2(had).sum() / 8
    assert abs(finish(coder, buffer) - ideal) < 2 + 1e-4 * ideal
