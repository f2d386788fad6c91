"""The one list of what is done to a plain network before it trains, in the order it is done in."""

from bit_transformer.distributed.activation_checkpoint import checkpoint_blocks
from bit_transformer.distributed.compile import compile_branches
from bit_transformer.model.transformer import BitTransformer


def parallelize(network: BitTransformer, *, use_checkpoint: bool, compile: bool) -> None:
    """Apply what is asked for, in place; names in the state dict stay as they are.

    Raises `UnsupportedCombination` where two of them, or one and the network, exclude each other.
    """
    if use_checkpoint:
        checkpoint_blocks(network)
    if compile:
        compile_branches(network)
