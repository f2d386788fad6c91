"""Sequential algorithms as machine code, which numba makes at the first call.

functions  decorators; importing what they decorate loads no compiler
digest     what a compiled function computes, in a few bytes
store      machine code and other findings on disk, for the next process
backend    the compiler; loaded at the first call
"""
