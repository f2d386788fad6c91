"""Numba with a cache of machine code on disk that never serves stale or damaged code.

Numba's own cache does not notice a change in a function of another file.
"""

import contextlib
import functools
import logging
import pickle
import sys
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from bit_transformer.native.digest import CompiledFunction, digest_of
from bit_transformer.native.store import folders, keep, load

_log = logging.getLogger(__name__)

_config: Any = numba.config
_from_disk: Any = CompileResult._rebuild
_to_bytes: Any = dumps


def dispatcher(function: CompiledFunction, options: dict[str, Any], *, cached: bool) -> Any:
    """Return numba's dispatcher of a function; `cached` keeps its machine code on disk."""
    result = numba.njit(**options)(function.function)
    if cached:
        result._cache = _DiskCache(function)
    return result


def type_of(dispatcher: Any) -> Any:
    """Return the type that a dispatcher has in compiled code."""
    return numba.types.Dispatcher(dispatcher)


@functools.cache
def machine() -> bytes:
    """Return a key for the target processor and the versions of the compilers."""
    codegen = cpu_target.target_context.codegen()
    versions = (numba.__version__, llvmlite.__version__, sys.version, _config.OPT)
    return repr((codegen.magic_tuple(), versions)).encode()


class _DiskCache(_Cache):
    """The machine code of one function, with one file per signature."""

    def __init__(self, function: CompiledFunction) -> None:
        self._function = function
        module = function.function.__module__.rpartition(".")[2]
        self._name = f"{module}.{function.function.__name__}"

    @property
    def cache_path(self) -> str:
        """Folder that numba reports as its cache."""
        return str(folders()[0])

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return code that was compiled before, or None to compile it."""
        target_context.refresh()
        key = self._key(sig)
        if (content := load(self._name, key)) is not None:
            # If the code cannot be loaded for any reason, it is compiled again.
            with contextlib.suppress(Exception):
                return _from_disk(target_context, *pickle.loads(content))
        _announce_compilation()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save compiled code. If no folder is writable, every process compiles it again."""
        if data.library.has_dynamic_globals or data.lifted:
            return
        if not keep(self._name, self._key(sig), _to_bytes(data._reduce())):
            _warn_of_no_folder()

    def enable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def disable(self) -> None:
        """Do nothing: the cache is never disabled."""

    def flush(self) -> None:
        """Do nothing: a cached file is never stale."""

    def _key(self, sig: Any) -> bytes:
        signature = repr([_describe_type(kind) for kind in sig]).encode()
        return b"\n".join([machine(), signature, self._digest])

    @functools.cached_property
    def _digest(self) -> bytes:
        return digest_of(self._function)


def _describe_type(kind: Any) -> Any:
    """Describe a numba type in full. Its own name omits the fields of a named tuple, which compiled
    code accesses by position."""
    tuple_of = getattr(kind, "instance_class", None)
    fields = getattr(kind, "fields", ())
    return str(kind), repr(tuple_of), fields, list(map(_describe_type, getattr(kind, "types", ())))


@functools.cache
def _announce_compilation() -> None:
    _log.info("Compiling for this processor, once: about 10 s.")


@functools.cache
def _warn_of_no_folder() -> None:
    places = ", ".join(map(str, folders()))
    _log.warning(
        "Compiled code is kept in memory only, because none of these folders can be written: %s; "
        "set NUMBA_CACHE_DIR to a folder that can",
        places,
    )
