"""The universal code is a valid code, and the reference follows the better predictor."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.telemetry.universal_code import Reference, UniversalCode, code_lengths

bit_arrays = st.lists(st.integers(0, 1), max_size=200).map(lambda bits: np.array(bits, np.uint8))


def _length(bits: np.ndarray) -> float:
    return float(code_lengths(UniversalCode().read(bits), bits).sum())


def test_probabilities_of_all_sequences_sum_to_one():
    rows = [np.array(bits, np.uint8) for bits in itertools.product((0, 1), repeat=12)]
    assert sum(2 ** -_length(row) for row in rows) == pytest.approx(1)


def test_the_first_bit_is_a_coin_flip():
    assert UniversalCode().read(np.ones(1, np.uint8)) == 0.5


@given(bit_arrays, st.integers(1, 50))
def test_reading_in_pieces_is_reading_at_once(bits, size):
    whole, pieces = UniversalCode().read(bits), UniversalCode()
    parts = [pieces.read(bits[i : i + size]) for i in range(0, len(bits), size)]
    assert np.array_equal(np.concatenate([np.zeros(0), *parts]), whole)
    assert pieces.bits_read == len(bits)


def test_growing_the_tables_changes_nothing():
    bits = np.random.default_rng(0).integers(0, 2, 20_000).astype(np.uint8)
    code = UniversalCode()
    parts = [code.read(bits[i : i + 100]) for i in range(0, len(bits), 100)]
    assert np.array_equal(np.concatenate(parts), UniversalCode().read(bits))


def test_a_certain_context_costs_two_bits_and_no_logarithm():
    lengths = [_length(np.zeros(n, np.uint8)) for n in (64, 4096)]
    assert lengths[1] - lengths[0] < 1


@pytest.mark.parametrize("p", [0.02, 0.1, 0.3])
def test_a_biased_coin_costs_its_entropy(p):
    bits = (np.random.default_rng(1).random(20_000) < p).astype(np.uint8)
    share = bits.mean()
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert _length(bits) / len(bits) == pytest.approx(entropy, abs=0.01)


def test_parity_is_learned_at_nine_bits_a_symbol():
    data = np.random.default_rng(2).integers(0, 2, (2000, 8)).astype(np.uint8)
    bits = np.concatenate((data, data.sum(1, keepdims=True) % 2), axis=1).flatten()
    lengths = code_lengths(UniversalCode(9).read(bits), bits).reshape(-1, 9)
    assert lengths[1000:, 8].mean() < 0.25
    assert lengths[1000:, :8].mean() == pytest.approx(1, abs=0.05)


def test_the_reference_follows_the_better_predictor():
    rng = np.random.default_rng(3)
    loop = np.tile(rng.integers(0, 2, 64).astype(np.uint8), 20)
    clueless, knowing = np.full(len(loop), 0.5), np.where(loop == 1, 0.99, 0.01)
    against, code = Reference().read(loop, clueless)
    assert np.abs(against - code)[640:].mean() < 0.05
    beside, _ = Reference().read(loop, knowing)
    noise = rng.integers(0, 2, 640).astype(np.uint8)
    wrong = np.where(noise == 1, 0.01, 0.99)
    derailed, code = Reference().read(noise, wrong)
    assert np.abs(beside - knowing)[:64].mean() < 0.15
    assert np.abs(derailed - code)[100:].mean() < 0.05
