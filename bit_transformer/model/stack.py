"""How the blocks of the trunk are run. A stack calls the two branches of each block itself, so that
another stack can run them in another way without touching a block."""

from collections.abc import Iterable, Iterator
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from bit_transformer.model.attention import AttentionContext
from bit_transformer.model.block import Block
from bit_transformer.model.cache import KVCache
from bit_transformer.model.config import ModelConfig


class PlainStack(nn.Module):
    """Pre-norm residual blocks, one after the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def __iter__(self) -> Iterator[Block]:
        """The blocks in the order in which they run."""
        return iter(cast("Iterable[Block]", self.blocks))

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        context: AttentionContext,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B S D"]:
        """The residual stream after the last block."""
        for index, block in enumerate(self):
            layer_cache = None if cache is None else cache.layers[index]
            x = x + block.attention(x, context, layer_cache)
            x = x + block.feed_forward(x)
        return x
