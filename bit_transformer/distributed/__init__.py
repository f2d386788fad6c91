"""Functions that take a plain model and return it spread over devices or compiled.

parallelize            the list of all of them, in order
activation_checkpoint  blocks run again in the backward pass
compile                torch.compile on the branches of each block
"""
