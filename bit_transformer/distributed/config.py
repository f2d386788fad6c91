"""The settings of `parallelize`."""

from dataclasses import dataclass

from bit_transformer.settings import Settings


@dataclass(frozen=True)
class ParallelConfig(Settings):
    """Use of devices: checkpointing of activations, compilation."""

    use_checkpoint: bool = False
    """Store only the input of each block between forward and backward pass and run the block again:
    less memory, a third more time."""
    compile: bool = False
    """Compile the branches of each block. Compilation takes about half a minute. Steps are then
    faster, on a CPU by 5 to 7 %, so that this pays only in longer runs."""
