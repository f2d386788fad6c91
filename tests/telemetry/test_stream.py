"""Tests of the metrics of a growing sequence."""

import tracemalloc

import numpy as np
import pytest

from bit_transformer.errors import ConfigError, InvalidPredictionError
from bit_transformer.telemetry.stream import METRIC_FIELDS, StreamTelemetry

RNG = np.random.default_rng(0)
BITS = RNG.integers(0, 2, 2400).astype(np.uint8)
LOGITS = RNG.normal(0, 2, 2400)


@pytest.mark.parametrize("size", [1, 3, 8, 64, 1000])
@pytest.mark.parametrize("patch_size", [1, 8, 9, 12])
def test_reading_in_pieces_is_reading_at_once(size, patch_size):
    whole = StreamTelemetry(patch_size=patch_size).read(BITS, LOGITS)
    pieces = StreamTelemetry(patch_size=patch_size)
    parts = [
        pieces.read(BITS[i : i + size], LOGITS[i : i + size]) for i in range(0, len(BITS), size)
    ]
    assert len(whole) == len(BITS) // patch_size
    for name in METRIC_FIELDS:
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(joined, getattr(whole, name), rtol=1e-12)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("symbol_bits", [8, 9])
def test_forgetting_does_not_depend_on_the_size_of_the_pieces(size, symbol_bits):
    settings = {"symbol_bits": symbol_bits, "memory_bits": 400, "window_bits": 16, "patch_size": 2}
    whole = StreamTelemetry(**settings).read(BITS, LOGITS)
    pieces = StreamTelemetry(**settings)
    parts = [
        pieces.read(BITS[i : i + size], LOGITS[i : i + size]) for i in range(0, len(BITS), size)
    ]
    assert pieces.bits_read == len(BITS)
    for name in METRIC_FIELDS:
        joined = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(joined, getattr(whole, name), rtol=1e-12)
    # Each time 400 bits are full, the older half is forgotten as if it had never been read.
    kept = 200 // symbol_bits * symbol_bits
    oldest = (len(BITS) - 1) // kept * kept - kept
    fresh = StreamTelemetry(**settings)
    later = fresh.read(BITS[oldest:], LOGITS[oldest:])
    assert later.at(-1)["u"] == pytest.approx(whole.at(-1)["u"])


def test_memory_is_bounded():
    telemetry = StreamTelemetry(memory_bits=800)
    for _ in range(3):
        telemetry.read(BITS, LOGITS)
    tracemalloc.start()
    for _ in range(20):
        telemetry.read(BITS, LOGITS)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Remembering all 48,000 bits would take megabytes.
    assert grown < 200_000


def test_all_metrics_lie_in_the_unit_interval_even_for_certain_predictions():
    certain = np.where(BITS == 1, np.inf, -np.inf)
    for logits in (LOGITS, certain, -certain, np.zeros(len(BITS))):
        found = StreamTelemetry().read(BITS, logits)
        for name in ("k", "c", "s", "t", "u"):
            values = getattr(found, name)
            assert ((values >= 0) & (values <= 1)).all(), name


def test_each_metric_tells_order_from_noise():
    text = np.unpackbits(np.frombuffer(b"tick tock " * 60, np.uint8))
    knowing = StreamTelemetry().read(text, np.where(text == 1, 4.0, -4.0))
    assert knowing.c[-1] < 0.1
    assert knowing.u[-1] > 0.9
    assert knowing.s[-1] > 0.9
    assert knowing.t[-1] > 0.9
    wrong = StreamTelemetry().read(BITS, np.where(BITS == 1, -4.0, 4.0))
    assert wrong.c[-1] > 0.85
    assert wrong.u[-1] < 0.05
    assert wrong.s[-1] < 0.5
    assert wrong.t[-1] < 0.05


def test_a_calibrated_model_is_typical():
    p = RNG.uniform(0.05, 0.95, 4000)
    bits = (RNG.random(4000) < p).astype(np.uint8)
    found = StreamTelemetry().read(bits, np.log(p / (1 - p)))
    assert (found.t[64:] < 0.1).mean() < 0.1


def test_surprisal_is_the_code_length_of_the_patch():
    found = StreamTelemetry().read(BITS, LOGITS)
    p = 1 / (1 + np.exp(-LOGITS))
    lengths = -np.log2(np.where(BITS == 1, p, 1 - p)).reshape(-1, 8).sum(1)
    np.testing.assert_allclose(found.surprisal, lengths, rtol=1e-9)


def test_bad_input_is_refused():
    with pytest.raises(InvalidPredictionError, match="bit 3"):
        StreamTelemetry().read(BITS[:8], np.array([0.0] * 3 + [np.nan] * 5))
    with pytest.raises(ConfigError, match="hold a patch"):
        StreamTelemetry(window_bits=4)
