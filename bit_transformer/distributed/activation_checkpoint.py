"""Activation checkpointing: the backward pass recomputes each block's activations instead of
storing them (Chen et al. 2016, arXiv:1604.06174)."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bit_transformer.errors import UnsupportedCombination
from bit_transformer.model.attention import AttentionContext
from bit_transformer.model.block import Block
from bit_transformer.model.cache import LayerCache
from bit_transformer.model.stack import SequentialStack
from bit_transformer.model.transformer import BitTransformer


def checkpoint_blocks(network: BitTransformer) -> None:
    """Make the network store only the input of each block between the passes, in place.

    Raises `UnsupportedCombination` for a stack that does not run whole blocks, such as a reversible
    one, which stores no activations at all.
    """
    if not isinstance(network.stack, SequentialStack):
        raise UnsupportedCombination(
            f"use_checkpoint and {type(network.stack).__name__} exclude each other: checkpointing "
            "replaces how a stack runs whole blocks, and this one does not; use one of them"
        )
    network.stack.run_block = _run_checkpointed


def _run_checkpointed(
    block: Block,
    x: Tensor,
    context: AttentionContext,
    cache: LayerCache | None,
    active: Tensor | None,
) -> Tensor:
    if cache is not None or not torch.is_grad_enabled():
        return block(x, context, cache, active)
    y: Tensor = checkpoint(block, x, context, None, active, use_reentrant=False)
    return y
