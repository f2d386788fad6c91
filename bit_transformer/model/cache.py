"""What a network remembers of the patches it has read: keys and values per layer, and the last few
patches for the context memory. With it, reading one more patch costs one trunk position."""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.model.config import ModelConfig


class LayerCache:
    """Keys and values of one attention layer, in room set aside at the start."""

    def __init__(self, keys: Float[Tensor, "B H S K"], values: Float[Tensor, "B H S K"]) -> None:
        self.keys, self.values, self.length = keys, values, 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions; return all stored so far, each (B, H, length, K)."""
        start, self.length = self.length, self.length + keys.shape[2]
        new = keys.shape[2]
        self.keys.narrow(2, start, new).copy_(keys)
        self.values.narrow(2, start, new).copy_(values)
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)


class KVCache:
    """The state of one batch of sequences between forward passes, under unchanged weights."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.capacity = config.context_patches + 1
        shape = (2, batch_size, config.nhead, self.capacity, config.head_width)
        stores = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.layers = [LayerCache(store[0], store[1]) for store in stores]
        orders = config.memory_orders
        self.recent: Integer[Tensor, "B order"] = torch.full(
            (batch_size, orders[-1] if orders else 0), -1, device=device
        )
        self.leaf_table: Tensor | None = None

    @property
    def length(self) -> int:
        """Positions stored; 0 means that not even the start position was read."""
        return self.layers[0].length

    def remember(self, patches: Integer[Tensor, "B N"]) -> None:
        """Keep the newest patches for the context memory; -1 stands for 'before the start'."""
        kept = self.recent.shape[1]
        self.recent = torch.cat((self.recent, patches), dim=1)[:, -kept:] if kept else self.recent
