"""Applies parallelism and memory features to a plain network, before its optimizer is built."""

from bit_transformer.distributed.activation_checkpoint import checkpoint_blocks
from bit_transformer.distributed.compile import compile_branches
from bit_transformer.distributed.config import ParallelConfig
from bit_transformer.model.transformer import BitTransformer


def parallelize(network: BitTransformer, config: ParallelConfig) -> None:
    """Apply the features that `config` turns on, in place. Names in the state dict stay the same.

    Raises `UnsupportedCombination` when a feature excludes another one or does not fit the network.
    """
    if config.use_checkpoint:
        checkpoint_blocks(network)
    if config.compile:
        compile_branches(network)
