"""The sources of a data set (files, folders, globs, stdin, hf://) to a list of readable files."""

import glob
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from bit_transformer.data.huggingface import SCHEME, absolute_hub_source, spool_hub_source
from bit_transformer.data.spool import spool_atomically, spooled_stdin
from bit_transformer.errors import SourceError

STDIN = "-"
_CHUNK = 1 << 20
_SKIPPED = ("site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3")
"""Folders of the standard library that are not its source."""
_COMPILED_CODE = "__pycache__"


@runtime_checkable
class ByteStream(Protocol):
    """The part of a binary stream that reading standard input needs."""

    def read(self, size: int, /) -> bytes: ...


def resolve_sources(
    specs: Sequence[str], *, spool: Path, stdin: ByteStream | None = None
) -> list[Path]:
    """Return the non-empty files that `specs` name, in that order.

    Without `specs`, these are the files of Python's standard library. A spec is a file, a folder
    (recursive, sorted, without hidden files and `__pycache__`), a glob (`**` crosses folders), `-`
    for `stdin` (written to `spool`/stdin.bin; sys.stdin by default) or `hf://OWNER/NAME?...` (see
    huggingface.py). A file that several specs name is used once, at its first place; if it came
    twice, the split could both train on it and hold it out.

    Raises SourceError for a missing path, a folder or glob without a non-empty file, an empty file
    or stdin, and anything that cannot be read.
    """
    if not specs:
        return standard_library_files()
    found: dict[Path, Path] = {}
    for spec in dict.fromkeys(specs):
        try:
            for path in _resolve(spec, spool, stdin):
                found.setdefault(path.resolve(), path.absolute())
        except OSError as error:
            raise SourceError(
                f"cannot read {error.filename or spec}: {error.strerror or error}; "
                "check its permissions or leave it out"
            ) from error
    return list(found.values())


def absolute_source(spec: str) -> str:
    """Return the name of the same source that does not depend on the current folder."""
    if spec == STDIN:
        return spec
    if spec.startswith(SCHEME):
        return absolute_hub_source(spec)
    path = Path(os.path.expanduser(spec))
    if path.is_absolute():
        return str(path)
    if glob.has_magic(spec) and not path.exists():
        # The current folder may have brackets in its name, which are not part of the pattern.
        return os.path.join(glob.escape(os.getcwd()), path)
    return str(path.absolute())


def standard_library_files() -> list[Path]:
    """Return the .py files of this interpreter's standard library, sorted, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in _walk(root, skip=_SKIPPED) if path.suffix == ".py" and _is_data(path)]
    if not files:
        raise SourceError(f"{root} holds no source of the standard library; name files to train on")
    return files


def _resolve(spec: str, spool: Path, stdin: ByteStream | None) -> list[Path]:
    if spec == STDIN:
        return [_spool_stdin(spooled_stdin(spool), stdin)]
    if spec.startswith(SCHEME):
        return [spool_hub_source(spec, spool)]
    path = Path(os.path.expanduser(spec))
    if path.is_dir():
        return _non_empty(_walk(path), f"folder {spec}")
    if path.exists():
        return [_named_file(path)]
    if glob.has_magic(spec):
        return _non_empty(_matches(str(path)), f"glob {spec}")
    raise SourceError(f"{spec} does not exist; name a file, a folder, a glob, - or {SCHEME}...")


def _matches(pattern: str) -> Iterator[Path]:
    return (Path(match) for match in sorted(glob.glob(pattern, recursive=True)))


def _named_file(path: Path) -> Path:
    if not path.is_file():
        raise SourceError(f"{path} is not a regular file; pipe it in and name {STDIN} instead")
    if not _is_data(path):
        raise SourceError(f"{path} is empty; name a file with data")
    return path


def _non_empty(paths: Iterable[Path], origin: str) -> list[Path]:
    files = [path for path in paths if path.is_file() and _is_data(path)]
    if not files:
        raise SourceError(
            f"{origin} holds no file with data (hidden files and {_COMPILED_CODE} are skipped); "
            "name another source"
        )
    return files


def _walk(root: Path, *, skip: Iterable[str] = ()) -> Iterator[Path]:
    """Yield the files below `root`, sorted within each folder, without hidden and skipped ones.

    Folders of Python's compiled code are always skipped.
    """
    skip = {_COMPILED_CODE, *skip}
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in skip)
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _is_data(path: Path) -> bool:
    """Whether the file holds a byte; raises OSError when it cannot be opened."""
    with path.open("rb") as file:
        return bool(file.read(1))


def _raise(error: OSError) -> None:
    """Handle an error of os.walk, which otherwise skips a folder that it cannot list."""
    raise error


def _spool_stdin(path: Path, stdin: ByteStream | None) -> Path:
    stream = stdin if stdin is not None else getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise SourceError(f"{STDIN} was named, but there is no standard input; name a file")
    if not spool_atomically(path, _chunks(stream)):
        raise SourceError("standard input is empty; pipe data in or name a file")
    return path


def _chunks(stream: ByteStream) -> Iterator[bytes]:
    try:
        while chunk := stream.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise SourceError(f"cannot read standard input: {error}; pipe the data in again") from error
