"""Gradient checkpointing: blocks are run again in the backward pass instead of keeping what they
computed (Chen et al. 2016, arXiv:1604.06174)."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bit_transformer.errors import UnsupportedCombination
from bit_transformer.model.attention import AttentionContext
from bit_transformer.model.block import Block
from bit_transformer.model.cache import LayerCache
from bit_transformer.model.stack import PlainStack, run_block
from bit_transformer.model.transformer import BitTransformer


def checkpoint_blocks(network: BitTransformer) -> None:
    """Keep only the input of each block between the passes, in place.

    Raises `UnsupportedCombination` for a reversible stack, which keeps not even those.
    """
    if not isinstance(network.stack, PlainStack):
        raise UnsupportedCombination(
            "use_checkpoint and reversible both compute activations again, and a reversible stack "
            "keeps none that could be left out; use one of them"
        )
    network.stack.run_block = _run_again


def _run_again(
    block: Block, x: Tensor, context: AttentionContext, cache: LayerCache | None = None
) -> Tensor:
    if cache is not None or not torch.is_grad_enabled():
        return run_block(block, x, context, cache)
    y: Tensor = checkpoint(run_block, block, x, context, use_reentrant=False)
    return y
