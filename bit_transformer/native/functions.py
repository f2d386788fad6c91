"""Decorators for functions that become machine code when they are first called.

Decorating is free: importing numba takes half a second, so it waits for the first call.
"""

import inspect
import threading
from collections.abc import Callable
from typing import Any

_BUILDING = threading.RLock()

_LEAN = {"error_model": "numpy", "_nrt": False}
"""Division by zero raises nothing, and no memory is allocated. Without reference counts for dozens
of arrays, a function compiles in half the time and runs faster."""
_NOT_CALLABLE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Not callable from Python. The code that unpacks Python's arguments is often longer than the
function itself."""


class Compiled:
    """A function, its options for numba, and its machine code after the first call."""

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], *, callee: bool
    ) -> None:
        """A `callee` is compiled into each compiled function that calls it. Any other function is
        compiled by itself and cached on disk."""
        # A runtime type checker may have wrapped the function already.
        self.function = inspect.unwrap(function)
        self.options, self.callee = options, callee
        self.__name__, self.__doc__ = self.function.__name__, self.function.__doc__
        self._called: Any = None
        self._embedded: Any = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._called or self._for_python())(*arguments)

    @property
    def _numba_type_(self) -> Any:
        """Type of this object in the code of a compiled caller; numba reads it."""
        from bit_transformer.native.backend import type_of

        return type_of(self._for_callers() if self.callee else self._for_python())

    def _for_python(self) -> Any:
        with _BUILDING:
            if self._called is None:
                self._called = self._build(self.options, cached=True)
            return self._called

    def _for_callers(self) -> Any:
        with _BUILDING:
            if self._embedded is None:
                self._embedded = self._build(self.options | _NOT_CALLABLE, cached=False)
            return self._embedded

    def _build(self, options: dict[str, Any], *, cached: bool) -> Any:
        # Imported here, so that a process that calls no compiled function loads no compiler.
        from bit_transformer.native.backend import dispatcher

        return dispatcher(self, options, cached=cached)


def compiled(function: Any) -> Any:
    """Compile a function at its first call and cache it on disk. It releases Python's lock while it
    runs."""
    return Compiled(function, {"nogil": True, "no_cfunc_wrapper": True}, callee=False)


def compiled_lean(function: Any) -> Any:
    """Like `compiled`, for a function that allocates nothing; division by zero raises nothing."""
    return Compiled(function, {"nogil": True, "no_cfunc_wrapper": True} | _LEAN, callee=False)


def callee(function: Any) -> Any:
    """Like `compiled_lean`, for a function that only compiled code calls. It becomes part of its
    callers and has no machine code of its own."""
    return Compiled(function, _LEAN, callee=True)


def inlined(function: Any) -> Any:
    """Like `callee`, and inlined at each call, because passing dozens of arrays to a small function
    costs more than the function itself."""
    return Compiled(function, {"forceinline": True} | _LEAN, callee=True)


def reassociated(function: Any) -> Any:
    """Like `compiled`, but sums may be reordered into vector lanes. NaN and infinity keep their
    meaning."""
    options = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "no_cfunc_wrapper": True}
    return Compiled(function, options, callee=False)


def reassociated_callee(function: Any) -> Any:
    """Like `reassociated`, for a function that only compiled code calls."""
    return Compiled(function, {"fastmath": {"reassoc", "contract", "nsz", "arcp"}}, callee=True)


def machine() -> bytes:
    """Return a key for the target processor and the versions of the compilers."""
    from bit_transformer.native.backend import machine

    return machine()
