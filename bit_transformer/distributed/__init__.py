"""Functions that take a plain model and return it spread over devices or compiled.

compile  torch.compile on the branches of each block
"""
