"""A differentiable approximation of Lempel-Ziv complexity, for probabilities instead of bits.

The proxy is the code length of soft bits under a mixture of adaptive estimators, one per context
length. Each estimator predicts from the counts of ones and zeros in its context (Krichevsky &
Trofimov 1981, IEEE Trans. IT 27(2)). The counts and the coded symbols are the probabilities, so
gradients flow through them. The contexts are the thresholded bits and carry no gradient. Over
real files, loops and noise the proxy ranks as the exact metric does:
`tests/telemetry/test_metrics.py` requires a rank correlation of 0.9.
"""

import math

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

_ORDERS = (0, 2, 4, 8, 12, 16, 24)
_PRIOR = 0.25
"""Pseudo-count of each bit value. A quarter learns a loop sooner than the usual half."""
_RECENT_BITS = 64
"""The orders are weighted by their code lengths over this many previous bits."""
_RANDOM = 1.01
"""Code length per bit of coin flips, including the cost of learning. It is scaled to C = 1."""


def lz_complexity_proxy(p_ones: Float[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Return C of probabilities of a one, in [0, 1]: near 0 for loops, 1 for coin flips.

    C = min(1, mean over t of H(p_t, q_t) / 1.01). H is the cross entropy in bits, and q_t is the
    mixture's prediction of bit t from the bits before it. Almost every probability has a nonzero
    gradient. The cost is O(T log T).
    """
    if p_ones.shape[1] < 2:
        return p_ones.sum(1) * 0 + 1
    hard_bits = (p_ones.detach() > 0.5).long()
    predictions = torch.stack([_predict(p_ones, hard_bits, order) for order in _ORDERS])
    recent = _sum_before(_cross_entropy(p_ones, predictions).detach(), _RECENT_BITS)
    weights = (-math.log(2) * recent).softmax(0)
    mixed = (weights * predictions).sum(0)
    return (_cross_entropy(p_ones, mixed).mean(-1) / _RANDOM).clamp(0, 1)


def _cross_entropy(p_ones: Tensor, predicted: Tensor) -> Tensor:
    return -(p_ones * predicted.log2() + (1 - p_ones) * (1 - predicted).log2())


def _predict(p_ones: Tensor, hard_bits: Tensor, order: int) -> Tensor:
    """Predict each bit from the earlier bits that followed the same `order` bits."""
    ones, visits = _counts_before(p_ones, _contexts(hard_bits, order))
    return (ones + _PRIOR) / (visits + 2 * _PRIOR)


def _contexts(bits: Integer[Tensor, "B T"], order: int) -> Integer[Tensor, "B T"]:
    """Encode the last `order` bits, or all so far, as an integer with a leading one."""
    length = torch.arange(bits.shape[1], device=bits.device).clamp(max=order)
    contexts = (1 << length).expand_as(bits).clone()
    for distance in range(1, min(order, bits.shape[1] - 1) + 1):
        contexts[:, distance:] += bits[:, :-distance] << (distance - 1)
    return contexts


def _counts_before(values: Tensor, contexts: Integer[Tensor, "B T"]) -> tuple[Tensor, Tensor]:
    """Return the sum and the number of earlier values in the same context."""
    ranked, order = contexts.sort(dim=1, stable=True)
    rank = torch.arange(values.shape[1], device=values.device).expand_as(order)
    begins = functional.pad(ranked[:, 1:] != ranked[:, :-1], (1, 0), value=True)
    first = torch.where(begins, rank, 0).cummax(1).values
    grouped = values.gather(1, order)
    before = grouped.cumsum(1) - grouped
    sums, visits = before - before.gather(1, first), rank - first
    inverse = torch.empty_like(order).scatter_(1, order, rank)
    return sums.gather(1, inverse), visits.gather(1, inverse)


def _sum_before(values: Tensor, width: int) -> Tensor:
    """Sum up to `width` values before each position."""
    length = values.shape[-1]
    sums = functional.pad(values.cumsum(-1), (width + 1, 0))
    return sums[..., width : width + length] - sums[..., :length]
