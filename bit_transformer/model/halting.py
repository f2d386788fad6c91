"""Adaptive computation: a position stops being refined as soon as the network is sure enough that
more layers would not pay.

After every block but the last a halting unit gives the probability that a position stops there,
and the position stops where the cumulated probability reaches a threshold (Graves 2016,
arXiv:1603.08983; the probability of each exit is that of PonderNet, Banino et al. 2021,
arXiv:2107.05407). A position that has stopped is frozen: later blocks spend nothing on it but the
keys and values by which other positions read it.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.model.attention import AttentionContext
from bit_transformer.model.block import Block
from bit_transformer.model.cache import KVCache, LayerCache
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.stack import PlainStack

_FIRST_LOGIT = -3.0
"""Of halting, at the start: nearly all positions begin by running through all blocks."""


class HaltingStack(PlainStack):
    """A plain stack whose positions stop early; with a threshold of 1 none does."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        exits = config.num_layers - 1
        self.halting_weight = nn.Parameter(torch.zeros(exits, config.d_model))
        self.halting_bias = nn.Parameter(torch.full((exits,), _FIRST_LOGIT))
        self.threshold = config.act_threshold
        """Cumulated probability of halting at which a position stops."""

    @property
    def least_log_going(self) -> float:
        """Logarithm of the probability of going on at which a position stops."""
        return math.log1p(-self.threshold) if self.threshold < 1 else -math.inf

    def halting_logits(self, x: Float[Tensor, "B S D"], index: int) -> Float[Tensor, "B S"]:
        """Log-odds that a position which has come so far stops after block `index`. The units look
        at the trunk and do not shape it: no gradient flows into `x`."""
        x = x.detach()
        weight = self.halting_weight[index].to(x.dtype)
        return rms_norm(x) @ weight + self.halting_bias[index]

    def halting_probabilities(
        self, activations: Float[Tensor, "L B S D"]
    ) -> Float[Tensor, "B S L"]:
        """Probability that a position stops after each block, given the stream after each."""
        going = activations.new_zeros(activations.shape[1:3])
        found = []
        for index, x in enumerate(activations[:-1]):
            logits = self.halting_logits(x, index)
            found.append(going + functional.logsigmoid(logits))
            going = going + functional.logsigmoid(-logits)
        return torch.stack([*found, going], dim=-1).exp()

    def exits(
        self, x: Float[Tensor, "B S D"], context: AttentionContext
    ) -> tuple[Float[Tensor, "L B S D"], Float[Tensor, "B S L"]]:
        """The stream after each block, no position stopped, and the probabilities of stopping."""
        states = []
        for block in self:
            x = self.run_block(block, x, context, None)
            states.append(x)
        stream = torch.stack(states)
        return stream, self.halting_probabilities(stream)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The stream where each position stopped."""
        least = self.least_log_going
        log_going = x.new_zeros(x.shape[:2])
        going = torch.ones_like(log_going, dtype=torch.bool)
        for index, block in enumerate(self):
            x = self._advance(
                block, x, going, context, None if cache is None else cache.layers[index]
            )
            if index < len(self.halting_bias):
                log_going = log_going + functional.logsigmoid(-self.halting_logits(x, index))
                going = going & (log_going > least)
        return x

    def _advance(
        self,
        block: Block,
        x: Float[Tensor, "B S D"],
        going: Bool[Tensor, "B S"],
        context: AttentionContext,
        cache: LayerCache | None,
    ) -> Float[Tensor, "B S D"]:
        if bool(going.all()):
            return self.run_block(block, x, context, cache)
        added = block.attention(x, context, cache, going)
        moved = x[going] + added
        moved = moved + block.feed_forward(moved)
        return x.masked_scatter(going[..., None], moved.to(x.dtype))
