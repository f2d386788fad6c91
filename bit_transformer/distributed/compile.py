"""torch.compile on the branches of each block: small graphs, one compilation for all blocks."""

from bit_transformer.model.transformer import BitTransformer


def compile_branches(network: BitTransformer) -> None:
    """Compile both branches of every block, in place; names in the state dict stay as they are.

    Branches are compiled and not whole blocks because a stack calls the branches. Meant for
    a GPU; `benchmarks/gpu/bench_train.py` measures it there.
    """
    for branch in network.branches():
        branch.compile()
