"""Sequential algorithms as machine code."""

import inspect
from typing import Any

import numba


def compiled(function: Any) -> Any:
    """The function compiled by numba at its first call, and kept on disk for the next process.

    A runtime type checker may have wrapped the function before.
    """
    return numba.njit(cache=True)(inspect.unwrap(function))
