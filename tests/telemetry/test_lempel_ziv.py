"""The incremental parser finds the same phrases as the definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bit_transformer.telemetry.lempel_ziv import PhraseParser

words = st.lists(st.integers(0, 1), min_size=1, max_size=24)
sequences = st.one_of(
    st.lists(st.integers(0, 1), max_size=200), words.map(lambda word: (word * 30)[:200])
).map(lambda bits: np.array(bits, np.uint8))


def _by_definition(bits: np.ndarray) -> list[bool]:
    """Return whether each bit ends the shortest string without an earlier occurrence."""
    text, start, ends = "".join(map(str, bits)), 0, []
    for stop in range(1, len(text) + 1):
        ended = text[start:stop] not in text[: stop - 1]
        ends.append(ended)
        start = stop if ended else start
    return ends


@given(sequences)
def test_phrases_are_those_of_the_definition(bits):
    parser = PhraseParser()
    expected = _by_definition(bits)
    assert parser.read(bits).tolist() == expected
    assert parser.mid_phrase == bool(expected and not expected[-1])


@given(sequences, st.integers(1, 60))
def test_reading_in_pieces_is_reading_at_once(bits, size):
    pieces = PhraseParser()
    parts = [pieces.read(bits[i : i + size]) for i in range(0, len(bits), size)]
    joined = np.concatenate([np.zeros(0, bool), *parts])
    assert np.array_equal(joined, PhraseParser().read(bits))


def test_growing_the_automaton_changes_nothing():
    bits = np.random.default_rng(0).integers(0, 2, 9000).astype(np.uint8)
    pieces = PhraseParser()
    parts = [pieces.read(bits[i : i + 37]) for i in range(0, len(bits), 37)]
    assert np.array_equal(np.concatenate(parts), PhraseParser().read(bits))
