"""Functions that become machine code when they are called.

Decorating costs nothing: numba, half a second by itself, is loaded at the first call.
"""

import inspect
import threading
from collections.abc import Callable
from typing import Any

_BUILDING = threading.RLock()

_LEAN = {"error_model": "numpy", "_nrt": False}
"""Division by zero gives no error, and no memory is allocated. Without counting references to
dozens of arrays, a function is compiled in half the time, and runs faster."""
_HIDDEN = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Not callable from Python: the code that takes arguments apart is longer than many a function."""


class Compiled:
    """A function, its options for numba, and its machine code once it was called."""

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], *, callee: bool
    ) -> None:
        """A `callee` is compiled into every compiled function that calls it; any other function is
        compiled by itself and kept on disk."""
        # A runtime type checker may have wrapped the function before.
        self.function = inspect.unwrap(function)
        self.options, self.callee = options, callee
        self.__name__, self.__doc__ = self.function.__name__, self.function.__doc__
        self._called: Any = None
        self._embedded: Any = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._called or self._for_python())(*arguments)

    @property
    def _numba_type_(self) -> Any:
        """What numba takes this for in the code of a compiled caller."""
        from bit_transformer.native.backend import type_of

        return type_of(self._for_callers() if self.callee else self._for_python())

    def _for_python(self) -> Any:
        with _BUILDING:
            if self._called is None:
                self._called = self._build(self.options, kept=True)
            return self._called

    def _for_callers(self) -> Any:
        with _BUILDING:
            if self._embedded is None:
                self._embedded = self._build(self.options | _HIDDEN, kept=False)
            return self._embedded

    def _build(self, options: dict[str, Any], *, kept: bool) -> Any:
        # Whoever calls no compiled function needs no compiler.
        from bit_transformer.native.backend import dispatcher

        return dispatcher(self, options, kept=kept)


def compiled(function: Any) -> Any:
    """The function compiled at its first call, and kept on disk for the next process. Other threads
    go on while it runs."""
    return Compiled(function, {"nogil": True, "no_cfunc_wrapper": True}, callee=False)


def compiled_lean(function: Any) -> Any:
    """As `compiled`, for a function that allocates nothing; division by zero gives no error."""
    return Compiled(function, {"nogil": True, "no_cfunc_wrapper": True} | _LEAN, callee=False)


def callee(function: Any) -> Any:
    """As `compiled_lean`, for a function that compiled code calls: it becomes part of its callers
    and has no machine code of its own."""
    return Compiled(function, _LEAN, callee=True)


def inlined(function: Any) -> Any:
    """As `callee`, and inlined wherever it is called: handing dozens of arrays to a small function
    costs more than the function."""
    return Compiled(function, {"forceinline": True} | _LEAN, callee=True)


def reassociated(function: Any) -> Any:
    """As `compiled`; sums may be reordered into vector lanes. NaN and infinity keep their
    meaning."""
    options = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "no_cfunc_wrapper": True}
    return Compiled(function, options, callee=False)


def reassociated_callee(function: Any) -> Any:
    """As `reassociated`, for a function that only compiled code calls."""
    return Compiled(function, {"fastmath": {"reassoc", "contract", "nsz", "arcp"}}, callee=True)


def machine() -> bytes:
    """The processor that functions are compiled for, and the compilers, in a few bytes."""
    from bit_transformer.native.backend import machine

    return machine()
