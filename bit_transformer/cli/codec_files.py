"""Files and streams of `compress` and `decompress`; - means standard input or output.

File names are strings as the user typed them, not paths, because "./-" is a file and "-" is not.
"""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import tyro

from bit_transformer.atomic import is_written_into, output_file, storage_errors
from bit_transformer.cli.codec_words import Words
from bit_transformer.cli.output import print_json
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
class FileArguments:
    """Arguments that `compress` and `decompress` share."""

    paths: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN] FILE...")
    ] = ()
    """Files; - is stdin. RUN is a run folder, a checkpoint folder, an exported model, or a model's
    name on a hub."""
    out: Annotated[str | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """Output file; - is stdout. By default FILE with .btz appended, or removed to decompress;
    stdout if FILE is a device or pipe."""
    stdout: Annotated[bool, tyro.conf.arg(aliases=["-c"])] = False
    """Write to stdout."""
    test: Annotated[bool, tyro.conf.arg(aliases=["-t"])] = False
    """Check that compressed files can be restored, without writing anything."""
    list: Annotated[bool, tyro.conf.arg(aliases=["-l"])] = False
    """List the blocks of compressed files, without decompressing them."""
    force: Annotated[bool, tyro.conf.arg(aliases=["-f"])] = False
    """Replace the output if it exists. A symbolic link stays, and its target is replaced."""
    keep: Annotated[bool, tyro.conf.arg(aliases=["-k"])] = False
    """Keep the input. This is the default, and it overrides --rm."""
    rm: bool = False
    """Remove the input once the output is safe on disk."""
    threads: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 0
    """Threads for the model; 0 means one per core. The output is the same for any number."""
    memory_limit: Annotated[str | None, tyro.conf.arg(aliases=["-M"], metavar="SIZE")] = None
    """Largest memory for blocks and tables, such as 512MiB or 50%. By default half of the
    machine's."""
    given: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Similar file to use as a dictionary. Decompressing needs the same file."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print errors only."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Also print the time taken and, when compressing, settings and memory."""
    json: bool = False
    """Print the result as JSON."""

    def check(self, files: Sequence[str]) -> None:
        """Raise `ConfigError` if options contradict each other or the number of files."""
        if self.stdout and self.out is not None:
            raise ConfigError("--stdout and --out both say where to write; leave one out")
        if self.out not in (None, STANDARD) and len(files) > 1:
            raise ConfigError(f"--out names one file, got {len(files)} inputs; leave it out")

    def tell(self, line: str) -> None:
        """Print a result, unless --quiet or --json is set."""
        if not self.quiet and not self.json:
            print(line, file=sys.stderr)

    def warn(self, line: str) -> None:
        """Print a warning, unless --quiet is set."""
        if not self.quiet:
            print(f"bit-transformer: {line}", file=sys.stderr)


class Input:
    """Bytes of a file or a stream. A failed read raises `SourceError` with the name."""

    def __init__(self, name: str, file: Any) -> None:
        self._name, self._file = name, file
        self._before = None if name == STANDARD else _status_of(file)

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, fewer only at the end."""
        with _read_errors(self._name):
            found: bytes = self._file.read(size)
        return found

    def seek(self, offset: int, /) -> int:
        """Move to a position in bytes from the start."""
        with _read_errors(self._name):
            found: int = self._file.seek(offset)
        return found

    def seekable(self) -> bool:
        """Whether it is a file, not a stream."""
        return _seekable(self._file)

    @property
    def status(self) -> os.stat_result | None:
        """Status of the regular file when it was opened; None for a stream."""
        return self._before

    @property
    def length(self) -> int | None:
        """Length of a regular file in bytes; None if unknown.

        Files under /proc report 0 bytes and hold more, so 0 counts as unknown.
        """
        return (self._before.st_size or None) if self._before else None

    def has_changed(self) -> bool:
        """Whether the file has been written to since it was opened."""
        before, now = self._before, _status_of(self._file)
        if before is None or now is None:
            return False
        return (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns)


@contextmanager
def reading(name: str, *, rewindable: bool = False) -> Iterator[Input]:
    """Open an input. A stream is copied to a temporary file if it must be `rewindable`."""
    with _read_errors(name):
        if name != STANDARD and os.path.isdir(name):
            raise SourceError(f"cannot read {name}: it is a folder; pack it with tar first")
        file = standard_bytes(sys.stdin, _STDIN) if name == STANDARD else open(name, "rb")  # noqa: SIM115
    try:
        if rewindable and not _seekable(file):
            with _copy_of(Input(name, file)) as copy:
                yield Input(name, copy)
        else:
            yield Input(name, file)
    finally:
        if name != STANDARD:
            file.close()


def _copy_of(source: Input) -> Any:
    """Copy a stream to an anonymous temporary file."""
    folder = Path(tempfile.gettempdir())
    with storage_errors(folder):
        copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (the caller closes it)
        while piece := source.read(1 << 20):
            copy.write(piece)
        copy.seek(0)
    return copy


def standard_bytes(stream: Any, name: str) -> Any:
    """Return the binary buffer of standard input or output; raise `SourceError` if it is closed."""
    if stream is None:
        raise SourceError(f"{name} is closed; name a file")
    return stream.buffer


@contextmanager
def writing(name: str, source: Input, *, force: bool, seekable: bool = False) -> Iterator[BinaryIO]:
    """Open an output.

    A file appears once everything is written, with permissions, owner and times of the source. A
    device, a FIFO or standard output receives the bytes directly.
    """
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
    """Raise an error, before any work is done, if the output would destroy something."""
    if is_written_into(path):
        if seekable:
            raise ConfigError(
                f"{path} is not a file, and --recover writes out of order; name a file"
            )
        if path.is_block_device() and not force:
            raise StorageError(f"{path} is a disk; --force overwrites its contents")
        return
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder; name a file in it")
    if source.status is not None and path.exists() and os.path.samestat(source.status, path.stat()):
        raise ConfigError(f"{path} is the input; name another file with --out")
    if not force:
        raise StorageError(f"{path} exists; --force replaces it, --out names another file")


def destination(name: str, arguments: FileArguments, default: Callable[[str], str]) -> str:
    """Return the name of the output for an input."""
    if arguments.out is not None and not arguments.stdout:
        found = arguments.out
    elif arguments.stdout or name == STANDARD or name.startswith(_SYSTEM) or _is_stream(name):
        found = STANDARD
    else:
        found = default(name)
    if found == STANDARD and arguments.json:
        raise ConfigError("--json and the output cannot both go to stdout; name a file with --out")
    return found


def check_terminal(sink: str, *, force: bool) -> None:
    """Raise `ConfigError` if compressed bytes would go to a terminal."""
    if sink == STANDARD and not force and sys.stdout is not None and sys.stdout.isatty():
        raise ConfigError("compressed bytes are not written to a terminal; name a file with --out")


def each_file(
    names: list[str],
    arguments: FileArguments,
    work: Callable[[str], dict[str, Any] | None],
) -> None:
    """Call `work` for each file, also after one of several has failed.

    `work` returns what --json prints about the file.
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
    if arguments.json:
        found = [report for report in reports if report is not None]
        print_json(found[0] if len(names) == 1 else found)
    if failed:
        raise CodecError(f"{failed} of {len(names)} files failed, see above; the others are done")


def remove_input(name: str, source: Input, sink: str, arguments: FileArguments) -> None:
    """Remove the input for --rm, if the output is a file and the input has not changed."""
    if arguments.keep or not arguments.rm or source.status is None or name == STANDARD:
        return
    if sink == STANDARD or is_written_into(Path(sink)) or source.has_changed():
        arguments.warn(f"{name} is kept")
        return
    try:
        os.unlink(name)
    except OSError as error:
        raise StorageError(f"cannot remove {name}: {error.strerror}") from error


def shared_of(run: str | None, given: str | None, threads: int) -> "Shared":
    """Load what encoder and decoder share: a network, and a dictionary.

    `threads` is the number for the network; 0 means one per core. There is no device to choose: the
    network runs in CPU code with a fixed order of operations, so that every machine decodes alike.
    """
    from bit_transformer.compression.encoding import share

    if threads < 0:
        raise ConfigError(f"threads must be 0 (one per core) or more, got {threads}")
    dictionary = b"" if given is None else _read_all(given)
    if run is None:
        return share(None, dictionary)
    from bit_transformer.lm import BitTransformerLM

    model = BitTransformerLM.from_pretrained(run)
    return share(model, dictionary, threads=threads or os.cpu_count() or 1)


def memory_limit_of(text: str | None) -> int:
    """Return the bytes of --memory-limit, by default half of the machine's memory."""
    return default_memory_limit() if text is None else parse_size(text)


def run_and_files(words: Words, command: str) -> tuple[str | None, list[str]]:
    """Return the run, if any, and the files. The first of several words is a run if it is a folder
    or a name on a hub."""
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
    """Return the status of a regular file that has a name; None for anything else."""
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
