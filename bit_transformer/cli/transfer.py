"""Where `compress` and `decompress` read and write: files, and - for standard input and output.

Names stay the words that the user typed, because "./-" is a file and "-" is not.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bit_transformer.checkpoint.atomic import is_written_into, output_file, storage_errors
from bit_transformer.cli.output import print_json
from bit_transformer.cli.words import Words
from bit_transformer.compression.memory_limit import default_memory_limit, parse_size
from bit_transformer.errors import (
    BitTransformerError,
    CodecError,
    ConfigError,
    SourceError,
    StorageError,
    storage_error,
)

if TYPE_CHECKING:
    from bit_transformer.compression.encoding import Shared

STANDARD = "-"
_STDIN, _STDOUT = "standard input", "standard output"
_SYSTEM = ("/dev/", "/proc/")


@dataclass(frozen=True)
class Settings:
    """What both commands are told about reading, writing and telling."""

    out: str | None
    stdout: bool
    force: bool
    rm: bool
    quiet: bool
    verbose: bool
    json: bool

    @classmethod
    def of(cls, arguments: Any, files: list[str]) -> "Settings":
        """From a command's arguments; `ConfigError` where they contradict each other."""
        if arguments.stdout and arguments.out is not None:
            raise ConfigError("--stdout and --out both say where to write; leave one out")
        if arguments.out not in (None, STANDARD) and len(files) > 1:
            raise ConfigError(f"--out names one file, and {len(files)} are to be written; leave it")
        return cls(
            out=arguments.out,
            stdout=arguments.stdout,
            force=arguments.force,
            rm=arguments.rm and not arguments.keep,
            quiet=arguments.quiet,
            verbose=arguments.verbose,
            json=arguments.json,
        )

    def tell(self, line: str) -> None:
        """A line about what was done."""
        if not self.quiet and not self.json:
            print(line, file=sys.stderr)

    def warn(self, line: str) -> None:
        """A line about what the user should know."""
        if not self.quiet:
            print(f"bit-transformer: {line}", file=sys.stderr)


class Input:
    """Bytes of a file or a stream; what fails in reading is a `SourceError` that names it."""

    def __init__(self, name: str, file: Any) -> None:
        self._name, self._file = name, file
        self._before = None if name == STANDARD else _status_of(file)

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes, fewer only at the end."""
        with _read_errors(self._name):
            found: bytes = self._file.read(size)
        return found

    def seek(self, offset: int, /) -> int:
        """Read from there on."""
        with _read_errors(self._name):
            found: int = self._file.seek(offset)
        return found

    def seekable(self) -> bool:
        """Whether it is a file and no stream."""
        return _seekable(self._file)

    @property
    def status(self) -> os.stat_result | None:
        """Of the regular file it is; None for a stream."""
        return self._before

    @property
    def length(self) -> int | None:
        """Bytes of a regular file; files that the system makes up say that they have none."""
        return (self._before.st_size or None) if self._before else None

    def has_changed(self) -> bool:
        """Whether somebody has written to the file since it was opened."""
        before, now = self._before, _status_of(self._file)
        if before is None or now is None:
            return False
        return (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns)


@contextmanager
def reading(name: str, *, again: bool = False) -> Iterator[Input]:
    """The bytes that a name means; a copy of a stream where they are to be read `again`."""
    with _read_errors(name):
        if name != STANDARD and os.path.isdir(name):
            raise SourceError(f"cannot read {name}: it is a folder; pack it with tar first")
        file = standard_bytes(sys.stdin, _STDIN) if name == STANDARD else open(name, "rb")  # noqa: SIM115
    try:
        if again and not _seekable(file):
            with _copy_of(Input(name, file)) as copy:
                yield Input(name, copy)
        else:
            yield Input(name, file)
    finally:
        if name != STANDARD:
            file.close()


def _copy_of(source: Input) -> Any:
    """All of a stream, in a file that nobody else sees."""
    folder = Path(tempfile.gettempdir())
    with storage_errors(folder):
        copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (the caller closes it)
        while piece := source.read(1 << 20):
            copy.write(piece)
        copy.seek(0)
    return copy


def standard_bytes(stream: Any, name: str) -> Any:
    """The bytes of standard input or output; `SourceError` where it is closed."""
    if stream is None:
        raise SourceError(f"{name} is closed; name a file")
    return stream.buffer


@contextmanager
def writing(name: str, source: Input, *, force: bool, seekable: bool = False) -> Iterator[BinaryIO]:
    """Where bytes for a name go: a file appears when all is written, with rights, owner and times
    of the source; a device, a FIFO or standard output is written into."""
    if name == STANDARD:
        try:
            sink = standard_bytes(sys.stdout, _STDOUT)
            yield sink
            sink.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise storage_error(_STDOUT, error) from error
        return
    path = Path(name)
    _check_sink(path, source, force=force, seekable=seekable)
    with output_file(path, like=source.status) as file:
        yield file


def _check_sink(path: Path, source: Input, *, force: bool, seekable: bool) -> None:
    """Refuse before any work what would destroy something after it."""
    if is_written_into(path):
        if seekable:
            raise ConfigError(f"{path} is no file, and --recover writes out of order; name a file")
        if path.is_block_device() and not force:
            raise StorageError(f"{path} is a disk; --force overwrites what is on it")
        return
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder; name a file in it")
    if source.status is not None and path.exists() and os.path.samestat(source.status, path.stat()):
        raise ConfigError(f"{path} is the input; name another file with --out")
    if not force:
        raise StorageError(f"{path} exists; --force replaces it, --out names another file")


def destination(name: str, settings: Settings, default: Callable[[str], str]) -> str:
    """The name that output for an input goes to."""
    if settings.out is not None and not settings.stdout:
        found = settings.out
    elif settings.stdout or name == STANDARD or name.startswith(_SYSTEM) or _is_stream(name):
        found = STANDARD
    else:
        found = default(name)
    if found == STANDARD and settings.json:
        raise ConfigError("--json prints to stdout, where the bytes go; name a file with --out")
    return found


def check_terminal(sink: str, *, force: bool) -> None:
    """Compressed bytes are of no use on a terminal."""
    if sink == STANDARD and not force and sys.stdout is not None and sys.stdout.isatty():
        raise ConfigError("compressed bytes are not written to a terminal; name a file with --out")


def each_file(
    names: list[str],
    settings: Settings,
    work: Callable[[str], dict[str, Any] | None],
) -> None:
    """Do the work for each file; one that fails does not keep the others from it.

    Its value is what --json prints of it.
    """
    reports, failed = [], 0
    for name in names:
        try:
            reports.append(work(name))
        except (BitTransformerError, OSError) as error:
            if len(names) == 1 or isinstance(error, BrokenPipeError):
                raise
            failed += 1
            reports.append({"file": name, "error": str(error)})
            print(f"bit-transformer: {error}", file=sys.stderr)
    if settings.json:
        found = [report for report in reports if report is not None]
        print_json(found[0] if len(names) == 1 else found)
    if failed:
        raise CodecError(f"{failed} of {len(names)} files failed, see above; the others are done")


def remove_input(name: str, source: Input, sink: str, settings: Settings) -> None:
    """What --rm promises, where the output is a file and nothing speaks against it."""
    if not settings.rm or source.status is None or name == STANDARD:
        return
    if sink == STANDARD or is_written_into(Path(sink)) or source.has_changed():
        settings.warn(f"{name} is kept")
        return
    try:
        os.unlink(name)
    except OSError as error:
        raise StorageError(f"cannot remove {name}: {error.strerror}") from error


@contextmanager
def progress_bar(
    title: str, total: int | None, *, hidden: bool
) -> "Iterator[Callable[[int], None]]":
    """A bar on a terminal's stderr with speed and time left; it is told how many bytes are done."""
    if hidden or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.TextColumn(title),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, advance=done)


def shared_of(run: str | None, given: str | None, threads: int) -> "Shared":
    """What both sides have: a model's network, bytes given beforehand; 0 threads are all cores."""
    from bit_transformer.compression.encoding import share

    if threads < 0:
        raise ConfigError(f"threads must be 0 (one for each core) or more, got {threads}")
    read = b"" if given is None else _read_all(given)
    if run is None:
        return share(None, read)
    from bit_transformer.lm import BitTransformerLM

    model = BitTransformerLM.from_pretrained(run)
    return share(model, read, threads=threads or os.cpu_count() or 1)


def memory_limit_of(text: str | None) -> int:
    """Bytes that --memory-limit means."""
    return default_memory_limit() if text is None else parse_size(text)


def run_and_files(words: Words, command: str) -> tuple[str | None, list[str]]:
    """The words FILE..., or RUN FILE...: a run is a folder, or a name on a hub."""
    names = words.names
    if not names:
        if sys.stdin is not None and sys.stdin.isatty():
            raise ConfigError(f"{command} takes FILE, or RUN FILE; name a file, or - for stdin")
        return None, [STANDARD]
    if len(names) > 1 and _may_be_run(names[0]):
        return names[0], names[1:]
    return None, names


def _may_be_run(name: str) -> bool:
    from bit_transformer.checkpoint.locate import is_surely_a_path

    if os.path.exists(name):
        return os.path.isdir(name)
    return "/" in name and not is_surely_a_path(name)


def _read_all(name: str) -> bytes:
    with _read_errors(name), open(name, "rb") as file:
        return file.read()


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"cannot read {name}: it does not exist") from error
    except OSError as error:
        what = _STDIN if name == STANDARD else name
        raise SourceError(f"cannot read {what}: {error.strerror or error}") from error


def _is_stream(name: str) -> bool:
    try:
        mode = os.stat(name).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _status_of(file: Any) -> os.stat_result | None:
    """Of a regular file that has a name; None for anything else."""
    try:
        found = os.fstat(file.fileno())
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) and found.st_nlink else None


def _seekable(file: Any) -> bool:
    try:
        return bool(file.seekable() and not file.isatty())
    except OSError:
        return False
