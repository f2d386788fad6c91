"""Sequential algorithms as machine code, which numba compiles at the first call.

functions  decorators for functions that are compiled; importing them loads no compiler
digest     a digest of the code that a compiled function consists of
store      a cache of machine code and other results on disk, for later processes
backend    the compiler; loaded at the first call
"""
