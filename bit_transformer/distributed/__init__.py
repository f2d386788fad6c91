"""Functions that change how a plain network runs: on several devices, compiled, in less memory.

config                 the settings
world                  rank and number of the processes of a run
parallelize            applies all of the functions in order
activation_checkpoint  recomputes blocks in the backward pass to save memory
compile                applies torch.compile to the branches of each block
"""
