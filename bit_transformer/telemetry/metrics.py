"""The numbers of telemetry, as pure functions: K, C and S of bits and of predictions.

All lie in [0, 1] and are defined for every input: an empty sequence shows no order (K = 0, C = 1),
probabilities of exactly 0 and 1 cost nothing where they are right, and predictions that are not
numbers are an `InvalidPredictionError`, never a reading.
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
_SURE = 2.0**-24
"""Least probability that a divergence takes a prediction to have: 24 bits a bit at most."""


def binary_entropy(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Entropy in bits of a bit whose log-odds of being one are `logits` (Shannon 1948)."""
    _check_finite(logits)
    p_one = torch.sigmoid(logits)
    nats = -(p_one * functional.logsigmoid(logits) + (1 - p_one) * functional.logsigmoid(-logits))
    # Log-odds of infinity are certainty: 0 times infinity is 0 here.
    return torch.where(logits.isinf(), 0, nats / math.log(2))


def negentropy(logits: Float[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """K of predictions: 1 minus the mean entropy per bit; 0 is a coin flip, 1 certainty."""
    if not logits.shape[-1]:
        return logits.new_zeros(logits.shape[:-1])
    return 1 - binary_entropy(logits).mean(-1)


def negentropy_of_bits(
    bits: Integer[Tensor, "B T"], *, symbol_bits: int = 8
) -> Float[Tensor, " B"]:
    """K of bits at rest: 1 minus their code length per bit under `UniversalCode`, at least 0.

    Random bits give 0, what repeats itself goes to 1. `symbol_bits` as in `UniversalCode`.
    """
    rows = bits.cpu().numpy()
    found = [1 - _mean(code_lengths(UniversalCode(symbol_bits).read(row), row), 1) for row in rows]
    return _as_readings(found, bits)


def lz_complexity(bits: Integer[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """C of bits at rest: phrases of the Lempel-Ziv 1976 parse times log2(T) / T, at most 1.

    Random bits give 1 and loops go to 0 as T grows. The norm is an asymptotic one: compare
    sequences of about equal length.
    """
    return _as_readings([_lz_complexity(row) for row in bits.cpu().numpy()], bits)


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
    """KL(reference || prediction) of each bit, in bits (Kullback & Leibler 1951).

    Both are probabilities of a one. A prediction of 0 or 1 counts as 2**-24 off it.
    """
    _check_finite(p_ones)
    model = p_ones.clamp(_SURE, 1 - _SURE)
    return sum(
        (torch.special.xlogy(mine, mine) - torch.special.xlogy(mine, its)) / math.log(2)
        for mine, its in ((reference, model), (1 - reference, 1 - model))
    )


def symbiosis(kl: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """S: exp(-KL), of a mean divergence in bits per bit; 1 when model and reference agree."""
    return torch.exp(-kl)


def attention_entropy(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H S K"],
    rule: MaskRule = _CAUSAL,
    *,
    rows_at_once: int = 64,
) -> Float[Tensor, "B H"]:
    """Mean entropy in bits of attention, over positions; 0 looks at one place only.

    Works on a few rows at a time: no S x S map is ever held.
    """
    positions = torch.arange(queries.shape[2], device=queries.device)
    total = queries.new_zeros(queries.shape[:2])
    for asked in torch.split(positions, rows_at_once) if len(positions) else ():
        stop = int(asked[-1]) + 1 if rule.causal else len(positions)
        known = positions[int(rule.first_key(asked).min()) : stop]
        log_p = _attention_log_probabilities(queries[:, :, asked], keys, asked, known, rule)
        p = log_p.exp()
        total += -(p * log_p.masked_fill(p == 0, 0)).sum((-2, -1)) / math.log(2)
    return total / max(len(positions), 1)


def attention_map(
    queries: Float[Tensor, "B H S K"],
    keys: Float[Tensor, "B H S K"],
    rule: MaskRule = _CAUSAL,
) -> Float[Tensor, "B H S S"]:
    """Weights of attention; row i sums to 1 over the keys that position i may read."""
    positions = torch.arange(queries.shape[2], device=queries.device)
    return _attention_log_probabilities(queries, keys, positions, positions, rule).exp()


def _attention_log_probabilities(
    queries: Tensor, keys: Tensor, asked: Tensor, known: Tensor, rule: MaskRule
) -> Tensor:
    """Of queries at positions `asked` over keys at `known`, a range; `keys` are those of all."""
    keys = keys[:, :, known] if len(known) < keys.shape[2] else keys
    scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    return scores.masked_fill(~rule.allowed(asked, known), -torch.inf).log_softmax(-1)


def _check_finite(predictions: Tensor) -> None:
    if predictions.isnan().any():
        where = predictions.isnan().nonzero()[0].tolist()
        raise InvalidPredictionError(
            f"a prediction is NaN at {where}, and readings are made of numbers only; the model's "
            "weights are damaged: load a good checkpoint"
        )


def _mean(values: Float[np.ndarray, " n"], empty: float) -> float:
    return float(values.mean()) if len(values) else empty


def _as_readings(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=like.device).clamp(0, 1).float()
