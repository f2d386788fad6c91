"""Bits <-> patch values, and the tree nodes a patch passes through.

A prefix of i bits with value v is node `2**i + v` of a binary tree whose root, the empty prefix, is
node 1. A patch of P bits walks from the root to leaf `2**P + value`.
"""

import functools

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor


def patch_values(bits: Integer[Tensor, "B T"], patch_size: int) -> Integer[Tensor, "B N"]:
    """Values of the consecutive patches, first bit most significant; T is a multiple of P."""
    grouped = bits.view(bits.shape[0], -1, patch_size)
    values = grouped[:, :, 0].long()
    for i in range(1, patch_size):
        values = torch.add(grouped[:, :, i], values, alpha=2)
    return values


def patch_bits(patches: Integer[Tensor, "B N"], patch_size: int) -> UInt8[Tensor, "B T"]:
    """The bits of each patch, most significant first: the inverse of `patch_values`."""
    return _bits_of_values(patch_size, patches.device)[patches].flatten(1)


@functools.cache
def _bits_of_values(patch_size: int, device: torch.device) -> UInt8[Tensor, "values P"]:
    shifts = torch.arange(patch_size - 1, -1, -1, device=device)
    values = torch.arange(2**patch_size, device=device)
    return ((values[:, None] >> shifts) & 1).to(torch.uint8)


def path_nodes(patches: Integer[Tensor, "*shape"], patch_size: int) -> Integer[Tensor, "*shape P"]:
    """The P inner nodes whose decisions spell the patch: prefixes of 0 to P - 1 bits."""
    depths = torch.arange(patch_size, device=patches.device)
    return (patches[..., None] >> (patch_size - depths)) + (1 << depths)


def path_logits(
    node_logits: Float[Tensor, "*B N nodes"], patches: Integer[Tensor, "*B N"], patch_size: int
) -> Float[Tensor, "*B N P"]:
    """Logit of a one for each bit of each patch, given the bits before it (nodes is 2**P)."""
    return node_logits.gather(-1, path_nodes(patches, patch_size))
