"""Imports of optional libraries. An extra of the package installs each of them, for example
`pip install 'bit-transformer[plots]'`."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bit_transformer.errors import MissingExtraError


def import_extra(module: str, library: str, *, extra: str, purpose: str) -> Any:
    """Import a module of an optional library.

    Raises `MissingExtraError`, which names the purpose, the library and the extra to install.
    """
    with extra_imports(library, extra=extra, purpose=purpose):
        return importlib.import_module(module)


@contextmanager
def extra_imports(library: str | None = None, *, extra: str, purpose: str) -> Iterator[None]:
    """Context for imports of optional libraries.

    Raises `MissingExtraError`, which names the purpose, the extra to install, and the library;
    without `library`, it names the module that is missing.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {library or error.name}; pip install 'bit-transformer[{extra}]'"
        ) from error
