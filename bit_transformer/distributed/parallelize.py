"""The one list of what is done to a plain network before its optimizer is built, in order."""

from bit_transformer.distributed.activation_checkpoint import checkpoint_blocks
from bit_transformer.distributed.compile import compile_branches
from bit_transformer.distributed.config import ParallelConfig
from bit_transformer.model.transformer import BitTransformer


def parallelize(network: BitTransformer, config: ParallelConfig) -> None:
    """Apply what the settings ask for, in place. Names in the state dict stay the same.

    Raises `UnsupportedCombination` where two of them, or one of them and the network, exclude each
    other.
    """
    if config.use_checkpoint:
        checkpoint_blocks(network)
    if config.compile:
        compile_branches(network)
