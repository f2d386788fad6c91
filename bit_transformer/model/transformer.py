"""The network: bit tree in, trunk, bit tree out."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.errors import ContextLengthError, UnsupportedCombination
from bit_transformer.model.attention import (
    AttentionContext,
    AttentionKernel,
    MaskRule,
    attention_kernel,
)
from bit_transformer.model.cache import KVCache
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.embedding import BitTreeEmbedding
from bit_transformer.model.halting import HaltingStack
from bit_transformer.model.head import BitTreeHead
from bit_transformer.model.memory import ContextMemory
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.rotary import Rotary
from bit_transformer.model.stack import PlainStack, ReversibleStack


class BitTransformer(nn.Module):
    """Predicts each next patch of a sequence from all patches before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_kernel: AttentionKernel = attention_kernel(config)
        self.embedding = BitTreeEmbedding(config.patch_size, config.d_model)
        self.memory = ContextMemory(config) if config.memory_orders else None
        self.rotary = Rotary(config.head_width, config.context_patches + 1, config.rotary_base)
        self.stack = _build_stack(config)
        self.head = BitTreeHead(
            config.patch_size, config.d_model, parity=config.parity, logit_cap=config.logit_cap
        )

    def forward(
        self,
        patches: Integer[Tensor, "B N"],
        cache: KVCache | None = None,
        *,
        causal: bool = True,
    ) -> Float[Tensor, "B S nodes"]:
        """Node logits of the patch after each position.

        Without a cache, or with an empty one, the start position comes first and S is N + 1;
        otherwise the patches continue what the cache has read and S is N. Unless `causal`, every
        position attends to all others, over the whole context whatever the chunks.
        """
        if cache is not None and not causal:
            raise UnsupportedCombination(
                "a cache holds positions that have not seen what comes after them; read the whole "
                "sequence in one pass without a cache, or with causal=True"
            )
        begin, at_start = (0, True) if cache is None else (cache.length, not cache.begun)
        self._check_length(patches.shape[1] + at_start, cache)
        x = self.read_patches(patches, cache, at_start=at_start)
        rule = self._rule(causal=causal) if cache is None else MaskRule()
        logits: Tensor = self.head(self.stack(x, self._context(begin, x.shape[1], rule), cache))
        return logits

    def exits(
        self, patches: Integer[Tensor, "B N"]
    ) -> tuple[Float[Tensor, "E B S nodes"], Float[Tensor, "B S E"]]:
        """What `forward` would give from each place where a position may stop, and the probability
        that it stops there; S is N + 1. A stack that always runs to its end has one such place."""
        self._check_length(patches.shape[1] + 1, None)
        x = self.read_patches(patches, None, at_start=True)
        context = self._context(0, x.shape[1], self._rule(causal=True))
        states, stops = self.stack.exits(x, context)
        logits: Tensor = self.head(states.flatten(0, 1))
        return logits.view(*states.shape[:3], -1), stops

    def _context(self, begin: int, positions: int, rule: MaskRule) -> AttentionContext:
        return AttentionContext(self.rotary(begin, positions), self.attention_kernel, rule)

    def _rule(self, *, causal: bool) -> MaskRule:
        if self.config.chunk_size is None:
            return MaskRule(causal)
        return MaskRule(causal, self.config.chunk_patches, self.config.overlap_patches)

    def new_cache(self, batch_size: int) -> KVCache:
        """An empty cache for that many sequences, on this network's device and in its dtype."""
        nodes = self.embedding.nodes
        cache = KVCache(self.config, batch_size, device=nodes.device, dtype=nodes.dtype)
        cache.leaf_table = self.embedding.leaf_table()
        return cache

    def read_patches(
        self, patches: Integer[Tensor, "B N"], cache: KVCache | None, *, at_start: bool
    ) -> Float[Tensor, "B S D"]:
        """What the trunk reads, normalised; a cache remembers the patches."""
        x = self.embedding(patches, None if cache is None else cache.leaf_table)
        if at_start:
            x = torch.cat((self.embedding.start(len(patches)), x), dim=1)
        if self.memory is not None:
            x = x + self.memory(self._recent(patches, cache), x.shape[1])
        if cache is not None:
            cache.remember(patches)
        return rms_norm(x)

    def _recent(self, patches: Tensor, cache: KVCache | None) -> Tensor:
        """The patches with as many before them as the memory looks back, -1 before the start."""
        if cache is not None:
            return torch.cat((cache.recent, patches), dim=1)
        assert self.memory is not None
        return functional.pad(patches, (self.memory.longest, 0), value=-1)

    def _check_length(self, positions: int, cache: KVCache | None) -> None:
        room = self.config.context_patches + 1 if cache is None else cache.room
        if positions <= room:
            return
        if cache is not None and self.config.chunk_size is not None:
            raise ContextLengthError(
                f"the chunk has room for {room} more patches, {positions} were given; read them "
                "in pieces and call slide() of the cache in between, as Predictor does"
            )
        before = 0 if cache is None else cache.length
        raise ContextLengthError(
            f"the context holds {self.config.max_seq_len} bits "
            f"({self.config.context_patches} patches), {before + positions - 1} patches were "
            "given; shorten the input or build the model with a larger max_seq_len"
        )


def _build_stack(config: ModelConfig) -> PlainStack | ReversibleStack:
    if config.use_act:
        return HaltingStack(config)
    return ReversibleStack(config) if config.reversible else PlainStack(config)
