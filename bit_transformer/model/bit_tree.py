"""The bit tree: a binary tree over the bits of a patch. It reads patches and predicts them.

A prefix of i bits with value v is node `2**i + v`. The empty prefix is the root, node 1. A patch of
P bits is a path from the root to leaf `2**P + value`.

The embedding has a vector for every node. A patch's embedding is the sum of the node embeddings on
its path. Patches with a common prefix share its nodes, so what is learned about one value helps
similar ones. The head has one logit for every inner node: bit i of the next patch is scored at the
node of the prefix seen so far. The product along the path is an exact chain rule. The 2**P - 1
inner nodes have the degrees of freedom of a softmax over 2**P values. Any prefix of a patch is a
valid prompt.

A node's logit is linear in the trunk's output. The log-odds that a softmax over the values gives a
bit are not: each side of the node is the log of a sum of exponentials. With `leaf_logits` the head
has both, and a node's logit is its own plus that of the softmax. Nodes share early what similar
values have in common, and leaves tell apart later what the nodes' planes cannot.
"""

import functools
from typing import Any

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer.model.norm import rms_norm

_SOFTPLUS_LIMIT = 50.0
"""From this value on, softplus(x) is x, to the last bit of float64."""
PARITY_LOGIT = 60.0
"""Logit of a known parity bit. Its code length, log2(1 + e**-60), is below float32's resolution."""


def patch_values(bits: Integer[Tensor, "B T"], patch_size: int) -> Integer[Tensor, "B N"]:
    """Values of consecutive patches, first bit most significant. T is a multiple of P."""
    grouped = bits.view(bits.shape[0], -1, patch_size)
    values = grouped[:, :, 0].long()
    for i in range(1, patch_size):
        values = torch.add(grouped[:, :, i], values, alpha=2)
    return values


def patch_bits(patches: Integer[Tensor, "B N"], patch_size: int) -> UInt8[Tensor, "B T"]:
    """Bits of each patch, most significant first. This inverts `patch_values`."""
    return _bits_of_values(patch_size, patches.device)[patches].flatten(1)


@functools.cache
def _bits_of_values(patch_size: int, device: torch.device) -> UInt8[Tensor, "values P"]:
    shifts = torch.arange(patch_size - 1, -1, -1, device=device)
    values = torch.arange(2**patch_size, device=device)
    return ((values[:, None] >> shifts) & 1).to(torch.uint8)


def path_nodes(patches: Integer[Tensor, "*shape"], patch_size: int) -> Integer[Tensor, "*shape P"]:
    """The P inner nodes on the path of each patch: its prefixes of 0 to P - 1 bits."""
    depths = torch.arange(patch_size, device=patches.device)
    return (patches[..., None] >> (patch_size - depths)) + (1 << depths)


def path_logits(
    node_logits: Float[Tensor, "*B N nodes"], patches: Integer[Tensor, "*B N"], patch_size: int
) -> Float[Tensor, "*B N P"]:
    """Logit of a one for each bit of each patch, given the bits before it (nodes is 2**P)."""
    return node_logits.gather(-1, path_nodes(patches, patch_size))


def _wide(x: Tensor) -> Tensor:
    """Convert 16-bit numbers to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class BitTreeEmbedding(nn.Module):
    """Embeds patch values. `nodes` is (2**(P + 1), D); row 0 is unused, row 1 is the root."""

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
        """Embedding of the start position: the root, because no bit is known there yet."""
        return self.nodes[1].expand(batch_size, 1, -1)

    def forward(
        self, patches: Integer[Tensor, "B N"], leaf_table: Float[Tensor, "values D"] | None = None
    ) -> Float[Tensor, "B N D"]:
        """Embeddings of patch values in [0, 2**P). Decoding passes a cached `leaf_table`."""
        return functional.embedding(
            patches, self.leaf_table() if leaf_table is None else leaf_table
        )


class _SubtreeLogOdds(torch.autograd.Function):
    """Autograd of composed operators keeps several tensors a level; this keeps one for all."""

    @staticmethod
    def forward(ctx: Any, leaves: Tensor) -> Tensor:
        log_odds, mass = torch.zeros_like(leaves), leaves
        width = leaves.shape[-1]
        while width > 1:
            width //= 2
            left = mass[..., 0::2]
            odds = mass[..., 1::2] - left
            log_odds[..., width : 2 * width] = odds
            mass = left + functional.softplus(odds, threshold=_SOFTPLUS_LIMIT)
        ctx.save_for_backward(log_odds)
        return log_odds

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """The gradient by the log-mass of a subtree, passed from the root to the leaves."""
        (log_odds,) = ctx.saved_tensors
        (grad,) = grads
        mass = grad.new_zeros(*grad.shape[:-1], 1)
        ones, width = torch.sigmoid(log_odds), 1
        while width < grad.shape[-1]:
            level = slice(width, 2 * width)
            right = mass * ones[..., level] + grad[..., level]
            mass = torch.stack((mass - right, right), dim=-1).flatten(-2)
            width *= 2
        return mass


def subtree_log_odds(leaves: Float[Tensor, "*B values"]) -> Float[Tensor, "*B values"]:
    """Log-odds of a one at each inner node under a softmax with these logits of all values.

    Entry n is that of node n: the log of the sum of exponentials over the values on its right side
    minus that on its left side. Entry 0 has no meaning.
    """
    found: Tensor = _SubtreeLogOdds.apply(leaves)  # type: ignore[no-untyped-call]
    return found


class BitTreeHead(nn.Module):
    """Logits of a one at each inner node. `nodes` is (inner nodes + 1, D); row 0 is unused. With
    `leaf_logits`, `leaves` (values, D) has a row for each patch value.

    With parity, the last bit of a patch follows from the others. Its nodes are constants, so a
    parity bit costs no model bits.
    """

    def __init__(
        self,
        patch_size: int,
        d_model: int,
        *,
        parity: bool,
        logit_cap: float = 0.0,
        leaf_logits: bool = False,
    ) -> None:
        super().__init__()
        self.parity, self.logit_cap = parity, logit_cap
        self.nodes = nn.Parameter(torch.zeros(2 ** (patch_size - parity), d_model))
        self.leaves = nn.Parameter(torch.zeros_like(self.nodes)) if leaf_logits else None
        if parity:
            ones = torch.tensor([value.bit_count() % 2 for value in range(2 ** (patch_size - 1))])
            known = torch.where(ones == 1, PARITY_LOGIT, -PARITY_LOGIT)
            self.register_buffer("parity_logits", known, persistent=False)

    def leaf_log_odds(self, x: Float[Tensor, "*E B S D"]) -> Float[Tensor, "*E B S nodes"]:
        """The term that the leaves add to the logit of each node, for the normalised input `x`."""
        assert self.leaves is not None, "the head of this network has no leaves"
        return subtree_log_odds(_wide(functional.linear(x, self.leaves)))

    def forward(self, x: Float[Tensor, "*E B S D"]) -> Float[Tensor, "*E B S nodes"]:
        """Logits of all inner nodes of the next patch. There are 2**P; entry 0 has no meaning."""
        x = rms_norm(x)
        logits = _wide(functional.linear(x, self.nodes))
        if self.leaves is not None:
            logits = logits + self.leaf_log_odds(x)
        if self.logit_cap:
            # Soft capping: Gemma 2, arXiv:2408.00118, section 2.
            logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
        if not self.parity:
            return logits
        known = self.get_buffer("parity_logits").to(logits.dtype)
        return torch.cat((logits, known.expand(*logits.shape[:-1], -1)), dim=-1)
