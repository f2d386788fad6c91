"""The bit tree that reads patches: a patch embeds as the sum of the nodes on its path.

Patches that share a prefix share all nodes of that prefix, so what is learned of one value helps
its neighbours; there is no table of whole bytes. The root, the empty prefix, embeds the start.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional


class BitTreeEmbedding(nn.Module):
    """Embeds patch values; `nodes` is (2**(P + 1), D), row 0 unused, row 1 the root."""

    def __init__(self, patch_size: int, d_model: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        nodes = torch.randn(2 ** (patch_size + 1), d_model) / (patch_size + 1) ** 0.5
        self.nodes = nn.Parameter(nodes)

    def leaf_table(self) -> Float[Tensor, "values D"]:
        """Embeddings of all 2**P patch values, built level by level in 2**(P + 1) additions."""
        table = self.nodes[1:2]
        for depth in range(1, self.patch_size + 1):
            level = self.nodes[2**depth : 2 ** (depth + 1)]
            table = table.repeat_interleave(2, 0) + level
        return table

    def start(self, batch_size: int) -> Float[Tensor, "B 1 D"]:
        """Embedding of the start position: no bit known yet."""
        return self.nodes[1].expand(batch_size, 1, -1)

    def forward(
        self, patches: Integer[Tensor, "B N"], leaf_table: Float[Tensor, "values D"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Embeddings of patch values in [0, 2**P); a leaf table built before saves building it."""
        return functional.embedding(
            patches, self.leaf_table() if leaf_table is None else leaf_table
        )
