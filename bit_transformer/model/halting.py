"""Adaptive computation: a position exits early once its cumulative halting probability passes the
threshold (Graves 2016, arXiv:1603.08983).

After every block but the last, a halting unit gives the probability that a position exits there.
The probabilities of the exits are those of PonderNet (Banino et al. 2021, arXiv:2107.05407). A
position that has exited keeps its state: later blocks compute only the keys and values by which
other positions attend to it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.model.attention import AttentionContext
from bit_transformer.model.cache import KVCache
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.stack import Layers, SequentialStack, Stack

Exits = tuple[Float[Tensor, "L B S D"], Float[Tensor, "B S L"]]
"""The residual stream after each block, and the probability that a position exits there."""
_INITIAL_HALTING_LOGIT = -3.0
"""At the start of training nearly all positions run through all blocks."""


class HaltingStack(SequentialStack):
    """Blocks whose positions may exit early. With a threshold of 1 none of them does."""

    def __init__(self, config: ModelConfig, layers: Layers = None) -> None:
        super().__init__(config, layers)
        exits = config.num_layers - 1
        self.halting_weight = nn.Parameter(torch.zeros(exits, config.d_model))
        self.halting_bias = nn.Parameter(torch.full((exits,), _INITIAL_HALTING_LOGIT))
        self.threshold = config.act_threshold
        """Cumulative halting probability at which a position exits."""

    @property
    def min_log_survival(self) -> float:
        """log(1 - threshold). A position exits once the log-probability that it is still active is
        not above this value."""
        return math.log1p(-self.threshold) if self.threshold < 1 else -math.inf

    def halting_logits(self, x: Float[Tensor, "B S D"], index: int) -> Float[Tensor, "B S"]:
        """Log-odds that a position which is still active exits after block `index`.

        No gradient flows into `x`: halting units read the trunk and do not shape it.
        """
        x = x.detach()
        weight = self.halting_weight[index].to(x.dtype)
        return rms_norm(x) @ weight + self.halting_bias[index]

    def halt_probs(self, states: Float[Tensor, "L B S D"]) -> Float[Tensor, "B S L"]:
        """Probability that a position exits after each block, from the stream after each block."""
        log_survival = states.new_zeros(states.shape[1:3])
        log_probs = []
        for index, x in enumerate(states[:-1]):
            logits = self.halting_logits(x, index)
            log_probs.append(log_survival + functional.logsigmoid(logits))
            log_survival = log_survival + functional.logsigmoid(-logits)
        return torch.stack([*log_probs, log_survival], dim=-1).exp()

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: KVCache | None = None,
        *,
        all_exits: bool = False,
    ) -> Tensor | Exits:
        """The stream (B, S, D) where each position exits; with `all_exits`, see `Exits`."""
        return self._all_exits(x, context) if all_exits else self._halt(x, context, cache)

    def _all_exits(self, x: Float[Tensor, "B S D"], context: AttentionContext) -> Exits:
        states = []
        for block in self:
            x = self.run_block(block, x, context, None, None)
            states.append(x)
        stacked = torch.stack(states)
        return stacked, self.halt_probs(stacked)

    def _halt(
        self, x: Float[Tensor, "B S D"], context: AttentionContext, cache: KVCache | None
    ) -> Float[Tensor, "B S D"]:
        log_survival = x.new_zeros(x.shape[:2])
        active = torch.ones_like(log_survival, dtype=torch.bool)
        for index, block in enumerate(self):
            layer = None if cache is None else cache.layers[index]
            x = self.run_block(block, x, context, layer, None if bool(active.all()) else active)
            if index < len(self.halting_bias):
                logits = self.halting_logits(x, index)
                log_survival = log_survival + functional.logsigmoid(-logits)
                active = active & (log_survival > self.min_log_survival)
        return x


def halt_probs(stack: Stack, states: Float[Tensor, "L B S D"]) -> Float[Tensor, "B S L"]:
    """`HaltingStack.halt_probs`. In other stacks every position exits after the last block."""
    if isinstance(stack, HaltingStack):
        return stack.halt_probs(states)
    layers, batch, positions, _ = states.shape
    probs = states.new_zeros(batch, positions, layers)
    probs[:, :, -1] = 1
    return probs
