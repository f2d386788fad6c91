"""Where `compress` and `decompress` read and write: files, - for standard input and output."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bit_transformer.checkpoint.atomic import atomic_file
from bit_transformer.compression.block import Progress as Told
from bit_transformer.compression.encoding import Shared, share
from bit_transformer.errors import ConfigError, SourceError, StorageError
from bit_transformer.lm import BitTransformerLM

STANDARD = Path("-")


@dataclass(frozen=True)
class Ends:
    """The files of one transfer."""

    source: Path
    sink: Path

    def check(self, *, force: bool) -> None:
        """Refuse before any work what would fail or destroy something after it."""
        if self.source != STANDARD and not self.source.is_file():
            what = "is a folder" if self.source.is_dir() else "there is no such file"
            raise SourceError(f"cannot read {self.source}: {what}")
        if self.sink == STANDARD:
            if sys.stdout.isatty():
                raise ConfigError("bytes are not written to a terminal; name a file with --out")
            return
        if not self.sink.exists():
            return
        if self.source != STANDARD and self.sink.samefile(self.source):
            raise ConfigError(f"{self.sink} is the input; name another file with --out")
        if not force:
            raise StorageError(f"{self.sink} exists; --force replaces it, --out names another file")

    def length(self) -> int | None:
        """Bytes of the source, where that is known."""
        return None if self.source == STANDARD else self.source.stat().st_size

    @contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """Source and sink; a sink that is a file appears when all is written."""
        writing = (
            nullcontext(sys.stdout.buffer) if self.sink == STANDARD else atomic_file(self.sink)
        )
        with reading(self.source) as source, writing as sink:
            yield source, sink
            sink.flush()


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file or of standard input."""
    try:
        opened = nullcontext(sys.stdin.buffer) if path == STANDARD else path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    with opened as file:
        yield file


@contextmanager
def progress_bar(title: str, total: int | None, *, hidden: bool) -> Iterator[Told]:
    """A bar on a terminal's stderr with speed and time left; it is told how many bytes are done."""
    console = Console(file=sys.stderr)
    with Progress(
        TextColumn(title),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, advance=done)


def shared_of(run: Path | None, given: Path | None, threads: int | None) -> Shared:
    """What both sides have: a model's network, bytes given beforehand."""
    model = None if run is None else BitTransformerLM.from_pretrained(run)
    read = b"" if given is None else _read(given)
    return share(model, read, threads=threads or os.cpu_count() or 1)


def run_and_file(paths: tuple[Path, ...], command: str) -> tuple[Path | None, Path]:
    """The words FILE, or RUN FILE."""
    if not 1 <= len(paths) <= 2:
        raise ConfigError(
            f"{command} takes FILE, or RUN FILE, got {len(paths)} names; quote names with spaces"
        )
    return (None if len(paths) == 1 else paths[0]), paths[-1]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
