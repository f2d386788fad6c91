"""Logistic arithmetic in integers, the same on every machine.

Probabilities have 16 bits. Log-odds, ln(p / (1 - p)), which PAQ calls stretched probabilities, have
8 fractional bits. An adaptive probability is one uint32 as in lpaq's StateMap (Mahoney): 22 bits of
probability above 10 bits that count its updates.
The tables come from decimal arithmetic, which rounds alike everywhere; the logarithms of
mathematical libraries differ in their last bits.
"""

from decimal import Decimal, localcontext

import numpy as np
from jaxtyping import Int32, Int64

from bit_transformer.native.functions import inlined

ONE = 1 << 16
"""The probability 1."""
MIN_PROBABILITY = 16
"""The mixer keeps a probability this far from 0 and from 1, so that no bit costs more than 12."""
STRETCH_SCALE = 256
STRETCH_LIMIT = 3072
"""Log-odds lie in [-3072, 3072), which is -12 to 12 before scaling."""
MAX_COUNT = 1023
"""The largest update count of an adaptive probability."""
UNKNOWN = 1 << 31
"""The adaptive probability 1/2 with an update count of zero."""


def _stretch_table() -> Int32[np.ndarray, "4096"]:
    """Scaled log-odds of the probabilities (i + 1/2) / 4096; the first half mirrors the second."""
    with localcontext(prec=20):
        odds = (
            (Decimal(i) + Decimal("0.5")) / (Decimal(4095 - i) + Decimal("0.5"))
            for i in range(2048, 4096)
        )
        above = np.array([round(odd.ln() * STRETCH_SCALE) for odd in odds], np.int32)
    return np.concatenate([-above[::-1], above])


def _squash_table() -> Int32[np.ndarray, "6144"]:
    """The probability of each log-odds. The entries of x and -x add up to 1."""
    with localcontext(prec=20):
        scaled = (Decimal(x) / STRETCH_SCALE for x in range(1, STRETCH_LIMIT + 1))
        below = [ONE - round(ONE / (1 + (-x).exp())) for x in scaled]
    values = np.array([*below[::-1], ONE // 2, *(ONE - value for value in below[:-1])], np.int32)
    return np.clip(values, MIN_PROBABILITY, ONE - MIN_PROBABILITY).astype(np.int32)


def _rates() -> Int64[np.ndarray, "1024"]:
    """Return 1 / (n + 1.5), with 16 fractional bits, as the step size of update n. As in lpaq, it
    makes an adaptive probability nearly the average of the bits it has seen."""
    return np.array([2 * ONE // (2 * n + 3) for n in range(MAX_COUNT + 1)], np.int64)


STRETCH = _stretch_table()
"""Log-odds, indexed by a probability of 12 bits."""
SQUASH = _squash_table()
"""Probability of 16 bits, indexed by log-odds + STRETCH_LIMIT."""
RATES = _rates()


@inlined
def clipped(log_odds: int) -> int:
    """Return the log-odds, limited to their range."""
    return min(max(log_odds, -STRETCH_LIMIT), STRETCH_LIMIT - 1)


@inlined
def adapted(entry: int, bit: int, limit: int) -> np.uint32:
    """Return an adaptive probability after one more bit. Its count stops at `limit`, at most 1023;
    from then on it forgets old bits exponentially."""
    probability = np.int64(entry) >> 10
    count = np.int64(entry) & MAX_COUNT
    target = (bit << 22) - bit
    probability += ((target - probability) * RATES[count]) >> 16
    return np.uint32((probability << 10) | min(count + 1, limit))


@inlined
def hashed(left: np.uint64, right: int) -> np.uint64:
    """Return a hash of two numbers: multiply, xor and fold, in the manner of splitmix64."""
    mixed = left * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(right) + np.uint64(0x632BE59BD9B4E019)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ (mixed >> np.uint64(32))
