import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bit_transformer.bits.codec import (
    bits_per_symbol,
    bits_to_bytes,
    bits_to_text,
    bytes_to_bits,
    pack_bits,
    text_to_bits,
    unpack_bits,
    unpack_bytes,
)
from bit_transformer.errors import DecodeError, InvalidBitsError, ParityError, UsageError

parities = st.booleans()


def test_exact_bits_most_significant_first_and_even_parity_last():
    assert bytes_to_bits(b"\x81").tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert bytes_to_bits(b"\x81\x80", parity=True).tolist() == (
        [1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    )
    assert text_to_bits("A") == [0, 1, 0, 0, 0, 0, 0, 1, 0]
    assert text_to_bits("A", parity=False) == [0, 1, 0, 0, 0, 0, 0, 1]
    assert (bits_per_symbol(False), bits_per_symbol(True)) == (8, 9)


@given(st.binary(max_size=300), parities)
def test_bytes_round_trip(data, parity):
    bits = bytes_to_bits(data, parity=parity)
    assert bits.dtype == np.uint8
    assert bits.size == len(data) * bits_per_symbol(parity)
    assert bits_to_bytes(bits, parity=parity) == data


@given(st.text(max_size=100), parities)
def test_text_round_trip(text, parity):
    bits = text_to_bits(text, parity=parity)
    assert isinstance(bits, list)
    assert all(type(bit) is int for bit in bits)
    assert bits_to_text(bits, parity=parity) == text


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_flipped_bit_never_passes_the_parity_check(data, draw):
    bits = bytes_to_bits(data, parity=True)
    flipped = draw.draw(st.integers(0, bits.size - 1))
    bits[flipped] ^= 1
    with pytest.raises(ParityError) as caught:
        bits_to_bytes(bits, parity=True)
    assert caught.value.byte_index == flipped // 9


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 4)] * 3)), parities)
def test_leading_axes_are_vectorised(values, parity):
    bits = unpack_bytes(values, parity=parity)
    for index in np.ndindex(*values.shape[:-1]):
        assert bits[index].tolist() == bytes_to_bits(values[index], parity=parity).tolist()


def test_every_kind_of_input_gives_the_same_bits():
    data = b"\x00\xa5\xff"
    wide = memoryview(np.frombuffer(data * 2, np.uint16))
    expected = bytes_to_bits(data).tolist()
    for same in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        assert bytes_to_bits(same).tolist() == expected
    assert bytes_to_bits(wide).tolist() == expected * 2
    assert (
        bytes_to_bits(memoryview(data + data)[::2]).tolist()
        == bytes_to_bits((data + data)[::2]).tolist()
    )
    bits = bytes_to_bits(data)
    for same_bits in (bits.tolist(), bits.astype(bool), bits.astype(float), torch.from_numpy(bits)):
        assert bits_to_bytes(same_bits) == data


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ([0] * 11 + [2] + [0] * 4, "bit 11 is 2"),
        ([0, 0.5, 0, 0, 0, 0, 0, 0], "bit 1 is 0.5"),
        ([0, float("nan"), 0, 0, 0, 0, 0, 0], "bit 1 is nan"),
        ([0, -1, 0, 0, 0, 0, 0, 0], "bit 1 is -1"),
        ([0, 2**63, 0, 0, 0, 0, 0, 0], "bit 1 is 9.22"),
        ([0, 2**70, 0, 0, 0, 0, 0, 0], "must be numbers"),
        ([256, 0, 0, 0, 0, 0, 0, 0], "bit 0 is 256"),
        ([0] * 13, "multiple of 8 bits, got 13; drop the last 5"),
        (["0", "1"], "must be numbers"),
        ([[0, 1], [0]], "one flat sequence"),
        (np.zeros((2, 8), np.uint8), r"one axis, got shape \(2, 8\)"),
    ],
)
def test_what_is_not_bits_is_refused(bits, message):
    with pytest.raises(InvalidBitsError, match=message):
        bits_to_bytes(bits)


def test_a_length_off_the_nine_bit_grid_is_refused():
    with pytest.raises(InvalidBitsError, match="groups of 9, got 16; drop the last 7"):
        bits_to_bytes([0] * 16, parity=True)


@pytest.mark.parametrize("data", [np.zeros(3, np.int64), np.zeros((2, 2), np.uint8)])
def test_an_array_that_is_not_flat_bytes_is_refused(data):
    with pytest.raises(InvalidBitsError, match="one-dimensional uint8"):
        bytes_to_bits(data)


@pytest.mark.parametrize(
    ("data", "index"), [(b"abc\xff", 3), (b"\xc3\xa9\xc3(", 2), (b"ok\xe2\x82", 2)]
)
def test_bytes_that_are_not_utf8_name_the_first_bad_one(data, index):
    with pytest.raises(DecodeError) as caught:
        bits_to_text(bytes_to_bits(data, parity=True))
    assert caught.value.byte_index == index
    assert f"byte {index} (0x{data[index]:02x})" in str(caught.value)


def test_a_lone_surrogate_is_a_usage_error():
    with pytest.raises(UsageError, match=r"character 2 .*lone surrogate"):
        text_to_bits("ab\ud800")


def test_empty_input_is_empty_output():
    assert bytes_to_bits(b"", parity=True).size == 0
    assert bits_to_bytes([]) == b""
    assert bits_to_text([]) == ""
    assert text_to_bits("") == []


@given(st.lists(st.integers(0, 1), max_size=200))
def test_round_trip_of_any_number_of_bits(bits):
    packed = pack_bits(bits)
    assert packed.dtype == np.uint8
    assert packed.size == -(-len(bits) // 8)
    assert unpack_bits(packed, len(bits)).tolist() == bits
    assert unpack_bits(packed).tolist() == bits + [0] * (-len(bits) % 8)


def test_exact_bytes_and_every_kind_of_input():
    assert pack_bits([1, 0, 0, 0, 0, 0, 0, 1, 1]).tolist() == [0x81, 0x80]
    for packed in (b"\x81\x80", bytearray(b"\x81\x80"), [0x81, 0x80], np.array([0x81, 0x80])):
        assert unpack_bits(packed, 9).tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("n_bits", [17, -1])
def test_a_count_the_bytes_do_not_hold_is_refused(n_bits):
    with pytest.raises(InvalidBitsError, match=rf"0\.\.16 for 2 bytes, got {n_bits}"):
        unpack_bits(b"ab", n_bits)


@pytest.mark.parametrize("packed", [[256], [-1], [1.5]])
def test_values_that_are_not_bytes_are_refused(packed):
    with pytest.raises(InvalidBitsError, match=r"byte 0 .*0\.\.255"):
        unpack_bits(packed)


def test_packing_refuses_what_is_not_bits():
    with pytest.raises(InvalidBitsError, match="bit 1 is 3"):
        pack_bits([0, 3])
