"""Metrics of a sequence while it grows, patch by patch. The gate and the glass box read them.

All metrics but the surprisal of a patch cover a trailing window, so they describe the present. The
universal code and the Lempel-Ziv parser behind them remember at least the last 16 KiB, so a copy of
the prompt is recognised. They forget older bits, so a stream of any length takes constant memory.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from bit_transformer.errors import ConfigError, InvalidPredictionError
from bit_transformer.native.functions import compiled
from bit_transformer.telemetry.lempel_ziv import PhraseParser
from bit_transformer.telemetry.universal_code import Reference

WINDOW_BITS = 512
"""Default length of the trailing window: 64 bytes."""
MEMORY_BITS = 1 << 18
"""Default number of bits after which code and parser restart from the newest half of them."""
_BIT_TERMS = 6
_MAX_LOG_ODDS = 30.0
"""Log-odds are clamped to this, which limits the confidence in a bit to 1 - 1e-13."""
_NATS = math.log(2)

METRIC_FIELDS = ("k", "c", "s", "t", "u", "surprisal")


@dataclass(frozen=True)
class StreamMetrics:
    """Metrics after each patch: every field holds one value per patch.

    All but the surprisal lie in [0, 1]. W is the number of bits in the window.
    """

    k: Float[np.ndarray, " n"]
    """K, order of the predictions: 1 - mean of H(p_t) over the window."""
    c: Float[np.ndarray, " n"]
    """C, complexity of the bits: min(1, phrases log2(n) / W). It counts the Lempel-Ziv 1976 phrases
    that end in the window; n is the number of bits that the parser remembers."""
    s: Float[np.ndarray, " n"]
    """S, agreement: exp(-mean KL(r_t || p_t)) over the window, r_t as in `Reference`."""
    t: Float[np.ndarray, " n"]
    """T, typicality: V / (V + D**2). D is the excess of surprisal over entropy in the window, at
    least 0, and V the sum of the variances of each bit's surprisal. By Cantelli's inequality, a
    calibrated model sees an excess of D or more with probability at most T."""
    u: Float[np.ndarray, " n"]
    """U, order of the bits: max(0, 1 - L / W), L being their code length in `UniversalCode`."""
    surprisal: Float[np.ndarray, " n"]
    """Information in the patch under the model, in bits, at least 0."""

    def __len__(self) -> int:
        return len(self.k)

    def part(self, start: int, stop: int) -> "StreamMetrics":
        """Return the values of patches start to stop - 1."""
        return StreamMetrics(**{name: getattr(self, name)[start:stop] for name in METRIC_FIELDS})

    def at(self, index: int) -> dict[str, float]:
        """Return the values of one patch by name."""
        return {name: float(getattr(self, name)[index]) for name in METRIC_FIELDS}


class StreamTelemetry:
    """Metrics of one sequence. Reading it in pieces gives the same values as reading it at once."""

    def __init__(
        self,
        *,
        patch_size: int = 8,
        symbol_bits: int = 8,
        window_bits: int = WINDOW_BITS,
        memory_bits: int = MEMORY_BITS,
    ) -> None:
        """`symbol_bits` is 8, or 9 with parity. Raises `ConfigError` for a window shorter than a
        patch or a memory shorter than four symbols."""
        if window_bits < patch_size:
            raise ConfigError(
                f"the telemetry window must hold a patch of {patch_size} bits, got {window_bits}"
            )
        if memory_bits < 4 * symbol_bits:
            raise ConfigError(
                f"memory_bits must hold four symbols of {symbol_bits} bits, got {memory_bits}"
            )
        self._patch_size, self._symbol_bits = patch_size, symbol_bits
        # The code's contexts depend on a bit's place in its symbol, so only whole symbols may go.
        self._kept = memory_bits // (2 * symbol_bits) * symbol_bits
        self._reference, self._parser = Reference(symbol_bits), PhraseParser()
        self._newest: list[tuple[np.ndarray, np.ndarray]] = []
        self._ring = np.zeros((window_bits, _BIT_TERMS))
        self.bits_read = 0
        """Number of bits read so far."""

    def read(
        self, bits: Integer[np.ndarray, " T"], logits: Float[np.ndarray, " T"]
    ) -> StreamMetrics:
        """Return the metrics after each patch that these bits complete; `logits` are the model's
        log-odds of a one. Raises `InvalidPredictionError` for NaN logits."""
        if np.isnan(logits).any():
            where = self.bits_read + int(np.isnan(logits).argmax())
            raise InvalidPredictionError(
                f"the prediction of bit {where} is NaN; the model's weights are damaged: load a "
                "good checkpoint"
            )
        values = np.ascontiguousarray(bits, dtype=np.uint8)
        odds = np.clip(np.asarray(logits, np.float64), -_MAX_LOG_ODDS, _MAX_LOG_ODDS)
        parts = []
        while len(values):
            room = 2 * self._kept - self._reference.bits_read
            parts.append(self._read(values[:room], odds[:room]))
            values, odds = values[room:], odds[room:]
        return StreamMetrics(*np.concatenate(parts or [np.empty((0, len(METRIC_FIELDS)))]).T)

    def _read(self, values: np.ndarray, odds: np.ndarray) -> Float[np.ndarray, "n metrics"]:
        """Return one row of metrics per patch. The memory must have room for the bits."""
        p_ones = 1 / (1 + np.exp(-odds))
        predictions = self._reference.read(values, p_ones)
        ends = self._parser.read(values)
        self.bits_read += len(values)
        done, known = self.bits_read, self._reference.bits_read
        completed = done // self._patch_size - (done - len(values)) // self._patch_size
        found = np.empty((completed, len(METRIC_FIELDS)))
        counts = np.array([self._patch_size, done, known])
        _trailing_metrics(values, odds, predictions, ends, self._ring, counts, found)
        self._newest.append((values, p_ones))
        if known == 2 * self._kept:
            self._forget_older_half()
        return found

    def _forget_older_half(self) -> None:
        values, p_ones = (
            np.concatenate(part)[-self._kept :] for part in zip(*self._newest, strict=True)
        )
        self._reference, self._parser = Reference(self._symbol_bits), PhraseParser()
        self._reference.read(values, p_ones)
        self._parser.read(values)
        self._newest = [(values, p_ones)]


@compiled
def _bit_terms(bit: int, odds: float, reference: float, code: float, row: np.ndarray) -> None:
    """Write a bit's KL, surprisal, entropy, variance of surprisal and code length to `row`."""
    p = 1 / (1 + math.exp(-odds))
    one, zero = math.log1p(math.exp(-odds)) / _NATS, math.log1p(math.exp(odds)) / _NATS
    row[0] = reference * (math.log(reference) / _NATS + one) + (1 - reference) * (
        math.log(1 - reference) / _NATS + zero
    )
    row[1] = one if bit else zero
    row[2] = p * one + (1 - p) * zero
    row[3] = p * (1 - p) * (odds / _NATS) ** 2
    row[4] = -math.log(code if bit else 1 - code) / _NATS


@compiled
def _trailing_metrics(
    bits: np.ndarray,
    odds: np.ndarray,
    predictions: tuple[np.ndarray, np.ndarray],
    ends: np.ndarray,
    ring: np.ndarray,
    counts: np.ndarray,
    found: np.ndarray,
) -> None:
    """Write each bit's terms to the ring, and a row of metrics per completed patch to `found`.

    `predictions` are those of the reference and of its universal code. `counts` holds the patch
    size, the number of bits read and the number remembered, these bits included. The ring is summed
    again for every patch, because running sums would accumulate rounding errors.
    """
    window, row = len(ring), 0
    reference, code = predictions
    patch_size, done, known = counts
    for t in range(bits.size):
        read = done - bits.size + t + 1
        at = (read - 1) % window
        _bit_terms(bits[t], odds[t], reference[t], code[t], ring[at])
        ring[at, 5] = ends[t]
        if read % patch_size:
            continue
        filled = min(read, window)
        kl = surprisal = entropy = variance = length = phrases = patch = 0.0
        for i in range(filled):
            kl += ring[i, 0]
            surprisal += ring[i, 1]
            entropy += ring[i, 2]
            variance += ring[i, 3]
            length += ring[i, 4]
            phrases += ring[i, 5]
        for back in range(patch_size):
            patch += ring[(read - 1 - back) % window, 1]
        excess = max(surprisal - entropy, 0.0) ** 2
        found[row, 0] = 1 - entropy / filled
        found[row, 1] = min(phrases * math.log2(known - bits.size + t + 1) / filled, 1.0)
        found[row, 2] = math.exp(-max(kl, 0.0) / filled)
        found[row, 3] = variance / (variance + excess) if variance + excess > 0 else 1.0
        found[row, 4] = min(max(1 - length / filled, 0.0), 1.0)
        found[row, 5] = patch
        row += 1
