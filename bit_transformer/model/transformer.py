"""The network: bit tree in, trunk, bit tree out."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.errors import ContextLengthError
from bit_transformer.model.attention import AttentionContext, AttentionKernel, full_attention
from bit_transformer.model.cache import KVCache
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.embedding import BitTreeEmbedding
from bit_transformer.model.head import BitTreeHead
from bit_transformer.model.memory import ContextMemory
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.rotary import Rotary
from bit_transformer.model.stack import PlainStack


class BitTransformer(nn.Module):
    """Predicts each next patch of a sequence from all patches before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_kernel: AttentionKernel = full_attention
        self.embedding = BitTreeEmbedding(config.patch_size, config.d_model)
        self.memory = ContextMemory(config) if config.memory_orders else None
        self.rotary = Rotary(config.head_width, config.context_patches + 1, config.rotary_base)
        self.stack = PlainStack(config)
        self.head = BitTreeHead(
            config.patch_size, config.d_model, parity=config.parity, logit_cap=config.logit_cap
        )

    def forward(
        self, patches: Integer[Tensor, "B N"], cache: KVCache | None = None
    ) -> Float[Tensor, "B S nodes"]:
        """Node logits of the patch after each position.

        Without a cache, or with an empty one, the start position comes first and S is N + 1;
        otherwise the patches continue what the cache has read and S is N.
        """
        begin = 0 if cache is None else cache.length
        self._check_length(begin + patches.shape[1] + (begin == 0))
        x = self.read_patches(patches, cache, at_start=begin == 0)
        context = AttentionContext(self.rotary(begin, x.shape[1]), self.attention_kernel)
        logits: Tensor = self.head(self.stack(x, context, cache))
        return logits

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

    def _check_length(self, positions: int) -> None:
        if positions > self.config.context_patches + 1:
            raise ContextLengthError(
                f"the context holds {self.config.max_seq_len} bits "
                f"({self.config.context_patches} patches), {positions - 1} patches were given; "
                "shorten the input or build the model with a larger max_seq_len"
            )
