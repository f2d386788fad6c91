"""Readings of a sequence while it grows, patch by patch: what a gate and a glass box look at.

Every reading but the surprisal of the patch itself is of a trailing window, so that it shows what
is happening now; the universal code and the Lempel-Ziv parse behind them remember at least the last
16 KiB, so that a copy of the prompt is seen to be one, and a stream of any length is read in
constant memory.
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
"""Trailing bits that readings are of, by default: 64 bytes."""
MEMORY_BITS = 1 << 18
"""Bits after which code and parse start over from the newest half of them, by default."""
_MEASURES, _READINGS = 6, 6
_CERTAIN = 30.0
"""Bound on log-odds: no bit is taken to be surer than 1 - 1e-13."""
_NATS = math.log(2)


READING_FIELDS = ("k", "c", "s", "t", "u", "surprisal")


@dataclass(frozen=True)
class Readings:
    """One value per patch in each field, in the order of the patches."""

    k: Float[np.ndarray, " n"]
    """K of the predictions: 1 minus their mean entropy; 1 is certainty."""
    c: Float[np.ndarray, " n"]
    """C: Lempel-Ziv phrases that ended in the window, times log2 of all bits read, per bit."""
    s: Float[np.ndarray, " n"]
    """S: exp(-KL(reference || model)), the reference being that of `Reference`."""
    t: Float[np.ndarray, " n"]
    """T, typicality: at most this probable is it that what the model expects surprises it so much
    (Cantelli's inequality on the sum of surprisal minus entropy)."""
    u: Float[np.ndarray, " n"]
    """U, order of the bits themselves: 1 minus their code length under the universal code."""
    surprisal: Float[np.ndarray, " n"]
    """Bits of information in the patch, under the model."""

    def __len__(self) -> int:
        return len(self.k)

    def part(self, start: int, stop: int) -> "Readings":
        """The values of patches start to stop - 1."""
        return Readings(**{name: getattr(self, name)[start:stop] for name in READING_FIELDS})

    def at(self, index: int) -> dict[str, float]:
        """The values of one patch by name."""
        return {name: float(getattr(self, name)[index]) for name in READING_FIELDS}


class StreamTelemetry:
    """Telemetry of one sequence; reading in pieces of whole patches is reading at once."""

    def __init__(
        self,
        *,
        patch_size: int = 8,
        symbol_bits: int = 8,
        window_bits: int = WINDOW_BITS,
        memory_bits: int = MEMORY_BITS,
    ) -> None:
        """`symbol_bits`: 8, or 9 with parity. Raises `ConfigError` for a window below a patch, or a
        memory below four symbols."""
        if window_bits < patch_size:
            raise ConfigError(
                f"the telemetry window must hold a patch of {patch_size} bits, got {window_bits}"
            )
        if memory_bits < 4 * symbol_bits:
            raise ConfigError(
                f"memory_bits must hold four symbols of {symbol_bits} bits, got {memory_bits}"
            )
        self._patch_size, self._symbol_bits = patch_size, symbol_bits
        # Whole symbols are forgotten: the code knows a bit by its place in the symbol.
        self._kept = memory_bits // (2 * symbol_bits) * symbol_bits
        self._reference, self._parser = Reference(symbol_bits), PhraseParser()
        self._newest: list[tuple[np.ndarray, np.ndarray]] = []
        self._ring = np.zeros((window_bits, _MEASURES))
        self.bits_read = 0
        """Bits read so far."""

    def read(self, bits: Integer[np.ndarray, " T"], logits: Float[np.ndarray, " T"]) -> Readings:
        """Readings after each patch that these bits complete, under the model's logits of a one.

        Raises `InvalidPredictionError` for logits that are NaN.
        """
        if np.isnan(logits).any():
            where = self.bits_read + int(np.isnan(logits).argmax())
            raise InvalidPredictionError(
                f"the prediction of bit {where} is NaN; the model's weights are damaged: load a "
                "good checkpoint"
            )
        values = np.ascontiguousarray(bits, dtype=np.uint8)
        odds = np.clip(np.asarray(logits, np.float64), -_CERTAIN, _CERTAIN)
        parts = []
        while len(values):
            room = 2 * self._kept - self._reference.bits_read
            parts.append(self._read(values[:room], odds[:room]))
            values, odds = values[room:], odds[room:]
        return Readings(*np.concatenate(parts or [np.empty((0, _READINGS))]).T)

    def _read(self, values: np.ndarray, odds: np.ndarray) -> Float[np.ndarray, "n readings"]:
        """Readings as rows; there is room for the bits."""
        p_ones = 1 / (1 + np.exp(-odds))
        held_against = self._reference.read(values, p_ones)
        ends = self._parser.read(values)
        self.bits_read += len(values)
        done, known = self.bits_read, self._reference.bits_read
        completed = done // self._patch_size - (done - len(values)) // self._patch_size
        found = np.empty((completed, _READINGS))
        counts = np.array([self._patch_size, done, known])
        _trail(values, odds, held_against, ends, self._ring, counts, found)
        self._newest.append((values, p_ones))
        if known == 2 * self._kept:
            self._forget_the_older_half()
        return found

    def _forget_the_older_half(self) -> None:
        values, p_ones = (
            np.concatenate(part)[-self._kept :] for part in zip(*self._newest, strict=True)
        )
        self._reference, self._parser = Reference(self._symbol_bits), PhraseParser()
        self._reference.read(values, p_ones)
        self._parser.read(values)
        self._newest = [(values, p_ones)]


@compiled
def _measure(bit: int, odds: float, reference: float, code: float, row: np.ndarray) -> None:
    """Divergence, surprisal, entropy, its variance, length in the universal code, into `row`."""
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
def _trail(
    bits: np.ndarray,
    odds: np.ndarray,
    held_against: tuple[np.ndarray, np.ndarray],
    ends: np.ndarray,
    ring: np.ndarray,
    counts: np.ndarray,
    found: np.ndarray,
) -> None:
    """Put each bit's measures into the ring, the readings of each completed patch into `found`.

    `counts` are the patch size, the bits read and how many of them are remembered, these included.
    The ring is summed anew for every patch: running sums would drift.
    """
    window, row = len(ring), 0
    reference, code = held_against
    patch_size, done, known = counts
    for t in range(bits.size):
        read = done - bits.size + t + 1
        at = (read - 1) % window
        _measure(bits[t], odds[t], reference[t], code[t], ring[at])
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
        beyond = max(surprisal - entropy, 0.0) ** 2
        found[row, 0] = 1 - entropy / filled
        found[row, 1] = min(phrases * math.log2(known - bits.size + t + 1) / filled, 1.0)
        found[row, 2] = math.exp(-max(kl, 0.0) / filled)
        found[row, 3] = variance / (variance + beyond) if variance + beyond > 0 else 1.0
        found[row, 4] = min(max(1 - length / filled, 0.0), 1.0)
        found[row, 5] = patch
        row += 1
