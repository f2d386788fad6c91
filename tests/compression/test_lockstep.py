"""What is coded in lock-step is decoded from its code alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bit_transformer.compression.contexts import new_lanes, profile_of
from bit_transformer.compression.lockstep import DECODE, ENCODE, code_patches
from bit_transformer.compression.range_coder import finish, new_coder, new_decoder
from bit_transformer.compression.tables import new_tables

_NOTHING = np.zeros(0, np.uint8)


def _lanes_over(size: int, count: int):
    lanes = new_lanes(count)
    edges = np.arange(count + 1) * size // count
    lanes.position[:], lanes.end[:] = edges[:-1], edges[1:]
    return lanes


def _coded(
    coder: np.ndarray, buffer: np.ndarray, data: np.ndarray, size: int, lane_count: int, plan
) -> np.ndarray:
    """Code `size` bytes without a network; the history afterwards."""
    tables, lanes = new_tables(size, 12, network=False), _lanes_over(size, lane_count)
    log_odds, patches = np.zeros((lane_count, 0), np.int32), np.zeros(lane_count, np.int64)
    code_patches(coder, buffer, tables, lanes, data, log_odds, patches, plan)
    return tables.history[:size]


def _round_trip(values: np.ndarray, lanes: int, patch_size: int, byte_bits: int) -> tuple:
    size, profile = len(values), profile_of(values)
    rounds = -(-byte_bits * -(-size // lanes) // patch_size)
    shape = (profile, patch_size, byte_bits, rounds)
    coder, buffer = new_coder(), np.zeros(2 * size + 64, np.uint8)
    _coded(coder, buffer, values, size, lanes, (ENCODE, 0, *shape))
    code = buffer[: finish(coder, buffer)].copy()
    decoded = _coded(new_decoder(code), code, _NOTHING, size, lanes, (DECODE, 0, *shape))
    return code, decoded


@settings(deadline=None, max_examples=60)
@given(
    st.binary(min_size=1, max_size=300),
    st.integers(1, 5),
    st.sampled_from([(8, 8), (1, 8), (5, 8), (12, 8), (9, 9), (4, 9), (1, 9)]),
)
def test_decoding_gives_the_bytes_back(data: bytes, lanes: int, shape: tuple[int, int]):
    values = np.frombuffer(data, np.uint8).copy()
    _, decoded = _round_trip(values, lanes, *shape)
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("shape", [(8, 8), (9, 9)])
def test_a_loop_costs_next_to_nothing(shape: tuple[int, int]):
    values = np.frombuffer(b"the same again, " * 500, np.uint8).copy()
    code, decoded = _round_trip(values, 1, *shape)
    np.testing.assert_array_equal(decoded, values)
    assert len(code) < 0.02 * len(values)


def test_random_bytes_cost_hardly_more_than_themselves():
    values = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8)
    code, _ = _round_trip(values, 1, 8, 8)
    assert len(values) < len(code) < 1.03 * len(values)
