import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.bits.codec import bits_to_bytes, bytes_to_bits
from bit_transformer.bits.parity import check_parity, enforce_parity, parity_of_bytes
from bit_transformer.errors import InvalidBitsError, ParityError

nines = st.integers(0, 20).flatmap(
    lambda n: st.lists(st.integers(0, 1), min_size=9 * n, max_size=9 * n)
)


@given(nines)
def test_enforced_bits_pass_the_check_and_keep_their_data(bits):
    fixed, corrected = enforce_parity(bits)
    check_parity(fixed)
    changed = [i for i, (a, b) in enumerate(zip(bits, fixed, strict=True)) if a != b]
    assert len(changed) == corrected
    assert all(i % 9 == 8 for i in changed)
    assert enforce_parity(fixed) == (fixed, 0)


def test_counts_and_container_kind():
    good = bytes_to_bits(b"abc", parity=True)
    broken = good.copy()
    broken[[8, 26]] ^= 1
    before = broken.copy()
    fixed, corrected = enforce_parity(broken)
    assert corrected == 2
    assert isinstance(fixed, np.ndarray)
    assert fixed.tolist() == good.tolist()
    assert broken.tolist() == before.tolist(), "the argument must not change"
    assert enforce_parity(broken.tolist()) == (good.tolist(), 2)
    assert bits_to_bytes(fixed, parity=True) == b"abc"


def test_the_first_odd_byte_is_named():
    bits = bytes_to_bits(b"abcd", parity=True)
    bits[[20, 30]] ^= 1
    with pytest.raises(ParityError, match=r"byte 2 \(bits 18..26\)") as caught:
        check_parity(bits)
    assert caught.value.byte_index == 2


def test_parity_of_all_bytes_is_their_count_of_ones():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert parity_of_bytes(values).ravel().tolist() == [i.bit_count() % 2 for i in range(256)]


@pytest.mark.parametrize("bits", [[0] * 8, [0] * 10, [0] * 8 + [2]])
def test_wrong_lengths_and_values_are_refused(bits):
    with pytest.raises(InvalidBitsError):
        enforce_parity(bits)
    with pytest.raises(InvalidBitsError):
        check_parity(bits)
