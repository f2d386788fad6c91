"""Functions that change how a plain network runs: over devices, compiled, with less memory.

config                 the settings
world                  this process among all processes of a run
parallelize            all of the functions in their order
activation_checkpoint  blocks run again in the backward pass
compile                torch.compile on the branches of each block
"""
