"""Bytes coded in lock-step are decoded from their code alone."""

from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bit_transformer import bytes_to_bits
from bit_transformer.compression.contexts import CONTEXTS, RICH_TEXT, profile_of
from bit_transformer.compression.lanes import new_lanes
from bit_transformer.compression.lockstep import DECODE, ENCODE, LEARN, Plan, code_patches
from bit_transformer.compression.range_coder import finish, new_coder, new_decoder
from bit_transformer.compression.tables import new_tables

_NOTHING = np.zeros(0, np.uint8)


def _tables_and_lanes(size: int, profile: int, count: int = 1, *, network: bool = False):
    tables = new_tables(size, 12, CONTEXTS[profile], network=network)
    return tables, _lanes_over(size, count, profile)


def _lanes_over(size: int, count: int, profile: int):
    lanes = new_lanes(count, CONTEXTS[profile])
    edges = np.arange(count + 1) * size // count
    lanes.position[:], lanes.end[:] = edges[:-1], edges[1:]
    return lanes


def _coded(
    coder: np.ndarray,
    buffer: np.ndarray,
    data: np.ndarray,
    size: int,
    log_odds: np.ndarray,
    plan: Plan,
) -> np.ndarray:
    """Code `size` bytes, and return the history."""
    lane_count, has_network = len(log_odds), log_odds.shape[1] > 0
    tables, lanes = _tables_and_lanes(size, plan.profile, lane_count, network=has_network)
    patches = np.zeros(lane_count, np.int64)
    code_patches(coder, buffer, tables, lanes, data, log_odds, patches, plan)
    return tables.history[:size]


def _round_trip(
    values: np.ndarray,
    lanes: int,
    patch_size: int,
    byte_bits: int,
    log_odds: np.ndarray | None = None,
    profile: int | None = None,
) -> tuple:
    size, profile = len(values), profile_of(values) if profile is None else profile
    rounds = -(-byte_bits * -(-size // lanes) // patch_size)
    shape = (profile, patch_size, byte_bits, rounds)
    network_odds = np.zeros((lanes, 0), np.int32) if log_odds is None else log_odds
    coder, buffer = new_coder(), np.zeros(2 * size + 64, np.uint8)
    _coded(coder, buffer, values, size, network_odds, Plan(ENCODE, 0, *shape))
    code = buffer[: finish(coder, buffer)].copy()
    plan = Plan(DECODE, 0, *shape)
    decoded = _coded(new_decoder(code), code, _NOTHING, size, network_odds, plan)
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


@pytest.mark.parametrize(("patch_size", "parity"), [(8, False), (5, False), (9, True), (4, True)])
def test_patches_are_those_of_the_bits_parity_included(patch_size: int, parity: bool):
    values = np.frombuffer(b"patch by patch \x00\xff\x01", np.uint8).copy()
    bits = bytes_to_bits(values, parity=parity)
    padded = np.pad(bits, (0, -len(bits) % patch_size)).reshape(-1, patch_size)
    expected = padded @ (1 << np.arange(patch_size)[::-1])
    tables, lanes = _tables_and_lanes(len(values), profile_of(values))
    patch, log_odds = np.zeros(1, np.int64), np.zeros((1, 0), np.int32)
    coder, buffer = new_coder(), np.zeros(64, np.uint8)
    plan = Plan(ENCODE, 0, profile_of(values), patch_size, 9 if parity else 8, 1)
    found = []
    for _ in expected:
        code_patches(coder, buffer, tables, lanes, values, log_odds, patch, plan)
        found.append(int(patch[0]))
    assert found == expected.tolist()


def _odds_of(byte: int) -> np.ndarray:
    """Return the log-odds (1, 256) of a network that predicts one byte with confidence."""
    log_odds = np.zeros((1, 256), np.int32)
    for index in range(8):
        node = (byte | 256) >> (8 - index)
        log_odds[0, node] = 3000 if (byte >> (7 - index)) & 1 else -3000
    return log_odds


def test_a_confident_network_saves_bits():
    values = np.random.default_rng(1).integers(0, 256, 600, dtype=np.uint8)

    def coded(coder: np.ndarray, buffer: np.ndarray, data: np.ndarray, direction: int):
        tables, lanes = _tables_and_lanes(len(values), profile_of(values), network=True)
        plan, patch = Plan(direction, 0, profile_of(values), 8, 8, 1), np.zeros(1, np.int64)
        for byte in values:
            code_patches(coder, buffer, tables, lanes, data, _odds_of(int(byte)), patch, plan)
        return tables.history[: len(values)]

    coder, buffer = new_coder(), np.zeros(2000, np.uint8)
    coded(coder, buffer, values, ENCODE)
    code = buffer[: finish(coder, buffer)].copy()
    assert len(code) < 0.2 * len(values)
    np.testing.assert_array_equal(coded(new_decoder(code), code, _NOTHING, DECODE), values)


_WORDS = b"the cat and a dog that were on their way".split()
_PROSE = b" ".join(_WORDS[i * i % 10] + _WORDS[i * 7 % 9] for i in range(700))
_RECORDS = b"".join((i * i).to_bytes(4, "little") + bytes([i % 7, 255]) for i in range(700))


@pytest.mark.parametrize(
    ("data", "lanes", "profile", "digest"),
    [
        (_PROSE, 1, None, "4875d24bc488c5a2"),
        (_PROSE, 3, None, "6469154b86651c76"),
        (_PROSE, 2, RICH_TEXT, "4598253e900a4e2f"),
        (_RECORDS, 1, None, "7f9f4b773ee96a8c"),
    ],
)
def test_the_code_is_the_same_on_every_machine(
    data: bytes, lanes: int, profile: int | None, digest: str
):
    """The code is fixed. Any other code for the same bytes would be another format."""
    values = np.frombuffer(data, np.uint8).copy()
    code, decoded = _round_trip(values, lanes, 8, 8, profile=profile)
    np.testing.assert_array_equal(decoded, values)
    assert blake2b(code.tobytes(), digest_size=8).hexdigest() == digest


def test_bytes_learned_before_shorten_the_code():
    sample = np.frombuffer(b"It was the best of times, it was the worst of times. " * 3, np.uint8)
    values = np.concatenate([sample, sample])
    half = len(sample)

    def code_of_the_second(direction: int) -> tuple[Any, ...]:
        tables, lanes = _tables_and_lanes(2 * half, profile_of(values))
        lanes.end[0] = half
        nothing, patch = np.zeros((1, 0), np.int32), np.zeros(1, np.int64)
        coder, buffer = new_coder(), np.zeros(2 * half + 64, np.uint8)
        first = Plan(direction, 0, profile_of(values), 8, 8, half)
        code_patches(coder, buffer, tables, lanes, values, nothing, patch, first)
        learned = (coder.copy(), buffer.copy())
        lanes.end[0] = 2 * half
        second = Plan(ENCODE, half, profile_of(values), 8, 8, half)
        code_patches(coder, buffer, tables, lanes, sample.copy(), nothing, patch, second)
        return *learned, finish(coder, buffer)

    coder, buffer, length = code_of_the_second(LEARN)
    np.testing.assert_array_equal(coder, new_coder())
    assert not buffer.any()
    _, _, both = code_of_the_second(ENCODE)
    assert length < 0.5 * both
