"""Bytes from files and standard input, bytes to standard output, and text that is safe to print.

Nothing here loads torch.
"""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bit_transformer.errors import SourceError, StorageError

STANDARD_INPUT = "-"
"""The name for standard input; `./-` is a file of that name."""
PIECE_BYTES = 1 << 20
"""Size of the pieces in which a file is read."""
_KEPT = "\n\t"
"""Control characters that are printed as they are."""


def argument_bytes(word: str) -> bytes:
    """Return the bytes of a word of the command line; they need not be valid text."""
    try:
        return os.fsencode(word)
    except UnicodeEncodeError:
        # The text comes from a Python caller, and the locale cannot encode it.
        return word.encode("utf-8", "surrogateescape")


def shown_name(name: str | Path) -> str:
    """Return a file name as one printable line."""
    return shown_text(argument_bytes(str(name)))


def shown_text(content: bytes, *, lines: bool = False) -> str:
    """Return bytes as printable text: invalid UTF-8 and control characters are escaped.

    With `lines`, line breaks and tabs are kept.
    """
    return _escaped(content.decode("utf-8", "backslashreplace"), kept=_KEPT if lines else "")


def file_pieces(name: str) -> Iterator[bytes]:
    """Yield the bytes of a file, or of standard input for `-`, piece by piece."""
    with _reading(name) as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def file_bytes(name: str, limit: int | None = None) -> bytes:
    """Return the first `limit` bytes of a file, or of standard input for `-`; by default all."""
    with _reading(name) as file:
        return file.read(-1 if limit is None else limit)


@contextmanager
def _reading(name: str) -> Iterator[BinaryIO]:
    """Open an input; raise `SourceError` if it cannot be opened or read."""
    try:
        if name == STANDARD_INPUT:
            if sys.stdin is None:
                raise SourceError("standard input is closed; name a file, or redirect one into it")
            yield sys.stdin.buffer
            return
        with Path(name).open("rb") as file:
            yield file
    except OSError as error:
        where = "standard input" if name == STANDARD_INPUT else shown_name(name)
        raise SourceError(f"cannot read {where}: {error.strerror or error}") from error
    except ValueError as error:
        raise SourceError(f"cannot read {shown_name(name)}: {error}") from error


class ByteOutput:
    """Writes bytes to standard output.

    A pipe or a file receives them unchanged. On a terminal, unless `raw`, invalid UTF-8 and control
    characters other than line breaks and tabs are escaped, as \\x1b, because a terminal would obey
    them.
    """

    def __init__(self, *, raw: bool = False) -> None:
        """Raise `StorageError` if standard output is closed."""
        if sys.stdout is None:
            raise StorageError("standard output is closed; redirect it to a file")
        self._text = None
        if sys.stdout.isatty() and not raw:
            self._text = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")

    def write(self, content: bytes) -> None:
        """Write and flush bytes; raise `StorageError` if they cannot be written."""
        _write(content if self._text is None else _for_terminal(self._text.decode(content)))

    def end(self) -> None:
        """End the line on a terminal."""
        if self._text is not None:
            _write(_for_terminal(self._text.decode(b"", final=True)) + b"\n")


def _for_terminal(text: str) -> bytes:
    encoding = sys.stdout.encoding or "utf-8"
    return _escaped(text, kept=_KEPT).encode(encoding, "backslashreplace")


def _escaped(text: str, *, kept: str) -> str:
    return "".join(
        one if one.isprintable() or one in kept else one.encode("unicode_escape").decode()
        for one in text
    )


def _write(content: bytes) -> None:
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Python would try to write the rest again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise StorageError(f"cannot write to standard output: {error.strerror}") from error
