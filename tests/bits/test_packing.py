import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.bits.packing import pack_bits, unpack_bits
from bit_transformer.errors import InvalidBitsError


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
