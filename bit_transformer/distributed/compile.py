"""Applies torch.compile to the branches of each block.

The graphs stay small, and all blocks share one compilation."""

from bit_transformer.model.transformer import BitTransformer


def compile_branches(network: BitTransformer) -> None:
    """Compile both branches of every block in place. Names in the state dict stay the same.

    A reversible stack calls branches and never blocks, so branches are the units. Compilation pays
    on a GPU; `benchmarks/gpu/bench_train.py` measures it.
    """
    for branch in network.branches():
        branch.compile()
