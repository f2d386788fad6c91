"""A digest of the code that a compiled function consists of, including everything it refers to.

Machine code holds a copy of every function that it calls and of every constant that it reads. If
any of them changes, in whatever file, the digest changes.
"""

import hashlib
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Protocol, runtime_checkable

import numpy as np

_PACKAGE = __name__.partition(".")[0]


@runtime_checkable
class CompiledFunction(Protocol):
    """A function and the numba options it is compiled with."""

    function: Any
    options: dict[str, Any]


def digest_of(function: CompiledFunction) -> bytes:
    """Return a digest of a function's code, of what it calls and of the constants it reads."""
    digest = hashlib.blake2b(digest_size=16)
    for part in _walk(function, set()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _walk(value: Any, seen: set[int]) -> list[bytes]:
    """Return the parts of a value; a function that was seen before gives only its name."""
    if isinstance(value, CompiledFunction):
        options = sorted(value.options.items())
        own = [f"{name}={_stable_repr(option)}".encode() for name, option in options]
        return own + _walk(value.function, seen)
    if isinstance(value, FunctionType):
        return _walk_function(value, seen)
    if isinstance(value, np.ndarray):
        return [value.dtype.str.encode(), repr(value.shape).encode(), value.tobytes()]
    if isinstance(value, tuple):
        parts = [part for each in value for part in _walk(each, seen)]
        return [b"tuple", str(len(value)).encode(), *parts]
    if isinstance(value, type):
        fields = getattr(value, "_fields", ())
        return [f"{value.__module__}.{value.__qualname__} {fields}".encode()]
    if isinstance(value, ModuleType) and not value.__name__.startswith(_PACKAGE):
        return [value.__name__.encode()]
    if isinstance(value, bool | int | float | str | bytes | None | np.generic):
        return [f"{type(value).__name__} {value!r}".encode()]
    if isinstance(value, BuiltinFunctionType | np.ufunc):
        return [value.__name__.encode()]
    raise TypeError(
        f"compiled code refers to {value!r}, whose changes cannot be detected; refer to a "
        "function, an array, a number or a string"
    )


def _walk_function(function: FunctionType, seen: set[int]) -> list[bytes]:
    name = function.__qualname__.encode()
    if id(function) in seen:
        return [name]
    seen.add(id(function))
    parts = [name]
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        parts += [code.co_code, repr((code.co_varnames, code.co_names)).encode()]
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                pending.append(constant)
            elif constant != function.__doc__:
                parts.append(f"{type(constant).__name__} {_stable_repr(constant)}".encode())
        for global_name in code.co_names:
            if global_name in function.__globals__:
                parts += _walk(function.__globals__[global_name], seen)
    for cell in function.__closure__ or ():
        parts += _walk(cell.cell_contents, seen)
    return parts + _walk(function.__defaults__, seen)


def _stable_repr(value: Any) -> str:
    """Return a text that is the same in every process. The order of a set of strings is not."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_stable_repr, value)))}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_stable_repr, value))})"
    return repr(value)
