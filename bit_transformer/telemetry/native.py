"""Sequential algorithms as machine code."""

import inspect
from typing import Any

import numba


def compiled(function: Any) -> Any:
    """The function compiled by numba at its first call, and kept on disk for the next process.

    Other threads go on while it runs. A runtime type checker may have wrapped the function before.
    """
    return numba.njit(cache=True, nogil=True)(inspect.unwrap(function))


def inlined(function: Any) -> Any:
    """As `compiled`, and made part of every compiled caller: handing dozens of arrays to a small
    function costs more than the function. Division by zero gives no error."""
    decorate = numba.njit(cache=True, error_model="numpy", forceinline=True)
    return decorate(inspect.unwrap(function))
