"""Numba, set up so that machine code is kept where it can be, and is never stale or damaged."""

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


def dispatcher(function: CompiledFunction, options: dict[str, Any], *, kept: bool) -> Any:
    """What numba calls, and calls in compiled code; machine code is `kept` on disk."""
    found = numba.njit(**options)(function.function)
    if kept:
        found._cache = _DiskCache(function)
    return found


def type_of(found: Any) -> Any:
    """The type of a dispatcher in compiled code."""
    return numba.types.Dispatcher(found)


@functools.cache
def machine() -> bytes:
    """The processor that code is compiled for, and the compilers."""
    codegen = cpu_target.target_context.codegen()
    versions = (numba.__version__, llvmlite.__version__, sys.version, _config.OPT)
    return repr((codegen.magic_tuple(), versions)).encode()


class _DiskCache(_Cache):
    """The machine code of one function for every signature, each in a file of its own."""

    def __init__(self, function: CompiledFunction) -> None:
        self._function = function
        module = function.function.__module__.rpartition(".")[2]
        self._name = f"{module}.{function.function.__name__}"

    @property
    def cache_path(self) -> str:
        """Where numba says that it keeps code."""
        return str(folders()[0])

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled before; None to compile it."""
        target_context.refresh()
        key = self._key(sig)
        if (content := load(self._name, key)) is not None:
            # Whatever keeps it from being used, it can be compiled again.
            with contextlib.suppress(Exception):
                return _from_disk(target_context, *pickle.loads(content))
        _announce()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled; where that cannot be, it is compiled in every process."""
        if data.library.has_dynamic_globals or data.lifted:
            return
        if not keep(self._name, self._key(sig), _to_bytes(data._reduce())):
            _warn_that_nothing_is_kept()

    def enable(self) -> None:
        """It always is."""

    def disable(self) -> None:
        """It never is."""

    def flush(self) -> None:
        """Nothing kept is ever stale."""

    def _key(self, sig: Any) -> bytes:
        signature = repr([_described(kind) for kind in sig]).encode()
        return b"\n".join([machine(), signature, self._digest])

    @functools.cached_property
    def _digest(self) -> bytes:
        return digest_of(self._function)


def _described(kind: Any) -> Any:
    """A type of numba's, with what its own name leaves out: named tuples are compiled to places."""
    tuple_of = getattr(kind, "instance_class", None)
    fields = getattr(kind, "fields", ())
    return str(kind), repr(tuple_of), fields, [_described(e) for e in getattr(kind, "types", ())]


@functools.cache
def _announce() -> None:
    _log.info("Compiling for this processor, once: about 10 s.")


@functools.cache
def _warn_that_nothing_is_kept() -> None:
    places = ", ".join(map(str, folders()))
    _log.warning(
        "Compiled code is kept in memory only, because none of these folders can be written: %s; "
        "set NUMBA_CACHE_DIR to one that can",
        places,
    )
