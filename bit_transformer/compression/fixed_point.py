"""Logistic arithmetic in integers: the same on every machine.

Probabilities have 16 bits, log-odds (the field says stretched probabilities) 8 fractional bits. An
adaptive probability is one uint32: 22 bits of probability, 10 bits of how often it was adapted.
The tables are made in decimal arithmetic, which is software and rounds alike everywhere.
"""

from decimal import Decimal, localcontext

import numpy as np
from jaxtyping import Int32, Int64

from bit_transformer.native.functions import inlined

ONE = 1 << 16
"""The probability 1."""
LEAST = 16
"""The least probability of a bit that mixing gives, and as far from 1 the largest."""
STRETCH_SCALE = 256
STRETCH_LIMIT = 3072
"""Log-odds lie in [-3072, 3072): twelve, scaled."""
MOST_ADAPTED = 1023
UNKNOWN = 1 << 31
"""The adaptive probability 1/2 that was never adapted."""


def _stretch_table() -> Int32[np.ndarray, "4096"]:
    """The logarithm of the odds of i + 1/2 in 4096; its second half mirrors the first."""
    with localcontext(prec=20):
        odds = (
            (Decimal(i) + Decimal("0.5")) / (Decimal(4095 - i) + Decimal("0.5"))
            for i in range(2048, 4096)
        )
        above = np.array([round(odd.ln() * STRETCH_SCALE) for odd in odds], np.int32)
    return np.concatenate([-above[::-1], above])


def _squash_table() -> Int32[np.ndarray, "6144"]:
    """The probability of each log-odds; that of their negative makes it one."""
    with localcontext(prec=20):
        scaled = (Decimal(x) / STRETCH_SCALE for x in range(1, STRETCH_LIMIT + 1))
        below = [ONE - round(ONE / (1 + (-x).exp())) for x in scaled]
    values = np.array([*below[::-1], ONE // 2, *(ONE - value for value in below[:-1])], np.int32)
    return np.clip(values, LEAST, ONE - LEAST).astype(np.int32)


def _rates() -> Int64[np.ndarray, "1024"]:
    """1 / (n + 1.5) in 16 fractional bits: what the n-th adaptation goes of its way."""
    return np.array([2 * ONE // (2 * n + 3) for n in range(MOST_ADAPTED + 1)], np.int64)


STRETCH = _stretch_table()
"""Log-odds of a probability of 12 bits."""
SQUASH = _squash_table()
"""Probability of 16 bits of log-odds, at their value + 3072."""
RATES = _rates()


@inlined
def clipped(log_odds: int) -> int:
    """Log-odds within their limits."""
    return min(max(log_odds, -STRETCH_LIMIT), STRETCH_LIMIT - 1)


@inlined
def adapted(entry: int, bit: int, limit: int) -> np.uint32:
    """An adaptive probability after one more bit; after `limit` of them, 1023 at most,
    it forgets."""
    probability = np.int64(entry) >> 10
    count = np.int64(entry) & MOST_ADAPTED
    target = (bit << 22) - bit
    probability += ((target - probability) * RATES[count]) >> 16
    return np.uint32((probability << 10) | min(count + 1, limit))


@inlined
def hashed(left: np.uint64, right: int) -> np.uint64:
    """A hash of two numbers (multiply, xor, fold: splitmix constants)."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(right) + np.uint64(0x632BE59BD9B4E019)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ (mixed >> np.uint64(32))
