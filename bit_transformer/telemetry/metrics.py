"""K, C and S of bits and of predictions, and attention entropy, as pure functions.

K, C and S lie in [0, 1] and are defined for every input. An empty sequence shows no order, so K = 0
and C = 1. A prediction of exactly 0 or 1 costs nothing where it is right. A NaN prediction raises
`InvalidPredictionError` and never becomes a metric. Entropies, divergences and code lengths are in
bits.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.errors import InvalidPredictionError
from bit_transformer.model.attention import MaskRule
from bit_transformer.telemetry.lempel_ziv import PhraseParser
from bit_transformer.telemetry.universal_code import UniversalCode, code_lengths

_CAUSAL = MaskRule()
_MIN_PROBABILITY = 2.0**-24
"""Probabilities are clamped to this before a divergence, which limits it to 24 bits per bit."""


def binary_entropy(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return H(p) = -p log2 p - (1 - p) log2(1 - p), p = sigmoid(logits) (Shannon 1948)."""
    _check_finite(logits)
    p_one = torch.sigmoid(logits)
    nats = -(p_one * functional.logsigmoid(logits) + (1 - p_one) * functional.logsigmoid(-logits))
    # Infinite logits mean certainty. There 0 times infinity stands for 0, not for NaN.
    return torch.where(logits.isinf(), 0, nats / math.log(2))


def negentropy(logits: Float[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Return K of predictions: 1 - mean over t of H(p_t). Coin flips give 0, certainty gives 1."""
    if not logits.shape[-1]:
        return logits.new_zeros(logits.shape[:-1])
    return 1 - binary_entropy(logits).mean(-1)


def negentropy_of_bits(
    bits: Integer[Tensor, "B T"], *, symbol_bits: int = 8
) -> Float[Tensor, " B"]:
    """Return K of bits: max(0, 1 - L / T), L being their code length under `UniversalCode`.

    Random bits give 0. Repetitive bits approach 1. `symbol_bits` is as in `UniversalCode`.
    """
    rows = bits.cpu().numpy()
    found = [1 - _mean(code_lengths(UniversalCode(symbol_bits).read(row), row), 1) for row in rows]
    return _clamped(found, bits)


def lz_complexity(bits: Integer[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Return C of bits: min(1, c log2(T) / T), c being the number of phrases of the Lempel-Ziv 1976
    parse (IEEE Trans. IT 22(1)).

    Random bits give 1, and loops approach 0 as T grows. The normalisation is asymptotic, so compare
    only sequences of about equal length.
    """
    return _clamped([_lz_complexity(row) for row in bits.cpu().numpy()], bits)


def _lz_complexity(bits: Integer[np.ndarray, " T"]) -> float:
    length = len(bits)
    if length < 2:
        return 1.0
    parser = PhraseParser()
    phrases = int(parser.read(bits).sum()) + parser.mid_phrase
    return phrases * math.log2(length) / length


def divergence(
    reference: Float[Tensor, "*shape"], p_ones: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return KL(reference || prediction) of each bit, in bits (Kullback & Leibler 1951).

    Both arguments are probabilities of a one. Predictions are clamped to [2**-24, 1 - 2**-24].
    """
    _check_finite(p_ones)
    model = p_ones.clamp(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return sum(
        (torch.special.xlogy(q, q) - torch.special.xlogy(q, p)) / math.log(2)
        for q, p in ((reference, model), (1 - reference, 1 - model))
    )


def symbiosis(kl: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return S = exp(-KL) of a mean divergence in bits per bit. S is 1 when model and reference
    agree and approaches 0 as they differ."""
    return torch.exp(-kl)


def attention_entropy(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H S K"],
    rule: MaskRule = _CAUSAL,
    *,
    rows_at_once: int = 64,
) -> Float[Tensor, "B H"]:
    """Return the entropy of each head's attention weights in bits, averaged over positions.

    It is 0 when every query reads a single key, and at most log2(S). The weights are computed for a
    few rows at a time, so an S x S map is never held in memory.
    """
    positions = torch.arange(queries.shape[2], device=queries.device)
    total = queries.new_zeros(queries.shape[:2])
    for rows in torch.split(positions, rows_at_once) if len(positions) else ():
        stop = int(rows[-1]) + 1 if rule.causal else len(positions)
        columns = positions[int(rule.first_key(rows).min()) : stop]
        log_p = _attention_log_probabilities(queries[:, :, rows], keys, rows, columns, rule)
        p = log_p.exp()
        total += -(p * log_p.masked_fill(p == 0, 0)).sum((-2, -1)) / math.log(2)
    return total / max(len(positions), 1)


def attention_map(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H S K"],
    rule: MaskRule = _CAUSAL,
) -> Float[Tensor, "B H S S"]:
    """Return attention weights. Row i sums to 1 over the keys that position i may read."""
    positions = torch.arange(queries.shape[2], device=queries.device)
    return _attention_log_probabilities(queries, keys, positions, positions, rule).exp()


def _attention_log_probabilities(
    queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor, rule: MaskRule
) -> Tensor:
    """Log-weights of the queries at positions `rows` over the keys at the range `columns`.

    `queries` holds only these rows; `keys` holds all positions.
    """
    keys = keys[:, :, columns] if len(columns) < keys.shape[2] else keys
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    return scores.masked_fill(~rule.allowed(rows, columns), -torch.inf).log_softmax(-1)


def _check_finite(predictions: Tensor) -> None:
    if predictions.isnan().any():
        where = predictions.isnan().nonzero()[0].tolist()
        raise InvalidPredictionError(
            f"the prediction at {where} is NaN; the model's weights are damaged: load a good "
            "checkpoint"
        )


def _mean(values: Float[np.ndarray, " n"], empty: float) -> float:
    return float(values.mean()) if len(values) else empty


def _clamped(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=like.device).clamp(0, 1).float()
