"""Numbers in [0, 1] that describe predictions. Pure functions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def binary_entropy(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Entropy in bits of a bit whose log-odds of being one are `logits` (Shannon 1948)."""
    p_one = torch.sigmoid(logits)
    nats = -(p_one * functional.logsigmoid(logits) + (1 - p_one) * functional.logsigmoid(-logits))
    return nats / math.log(2)


def negentropy(logits: Float[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """K of predictions: 1 minus the mean entropy per bit; 0 is a coin flip, 1 certainty."""
    return 1 - binary_entropy(logits).mean(-1)
