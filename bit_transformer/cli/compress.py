"""Compress files without loss."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from bit_transformer.cli import decompress
from bit_transformer.cli.codec_files import (
    STANDARD,
    Input,
    Settings,
    check_terminal,
    destination,
    each_file,
    memory_limit_of,
    reading,
    remove_input,
    run_and_files,
    shared_of,
    writing,
)
from bit_transformer.cli.codec_words import Words, split_words
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.progress import codec_bar
from bit_transformer.compression.config import SUFFIX, CodecConfig

if TYPE_CHECKING:
    from bit_transformer.compression.encoding import Compressed, Shared

_MIB = 1 << 20
LEVELS = {
    1: CodecConfig(block_bytes=1 * _MIB, table_bits=16),
    2: CodecConfig(block_bytes=2 * _MIB, table_bits=18),
    3: CodecConfig(block_bytes=4 * _MIB, table_bits=19),
    4: CodecConfig(block_bytes=8 * _MIB, table_bits=20),
    5: CodecConfig(block_bytes=8 * _MIB, table_bits=21),
    6: CodecConfig(),
    7: CodecConfig(block_bytes=32 * _MIB, table_bits=23),
    8: CodecConfig(block_bytes=32 * _MIB, table_bits=23, best=True),
    9: CodecConfig(block_bytes=256 * _MIB, table_bits=24, best=True),
}
"""Settings of -1 to -9. Higher levels use more memory, 8 and 9 also more time."""
_DEFAULT_LEVEL = 6
_INSTEAD = ("-d", "--decompress", "-t", "--test", "-l", "--list")
"""Options that turn `compress` into `decompress`, as with gzip, xz and zstd."""


@dataclass(frozen=True)
class CompressArguments:
    """Compress files without loss, by context mixing. With RUN, a trained model helps.

    FILE becomes FILE.btz, with the same permissions and times. FILE is kept unless --rm is given.
    Without FILE, standard input is compressed to standard output. A file that was compressed with
    RUN can only be decompressed with the same RUN.
    """

    paths: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN] FILE...")
    ] = ()
    """Files to compress; - is stdin. RUN is a run folder, a checkpoint folder, an exported model,
    or a model's name on a hub."""
    out: Annotated[str | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """Compressed file; - is stdout. By default FILE.btz, or stdout if FILE is a device or pipe."""
    stdout: Annotated[bool, tyro.conf.arg(aliases=["-c"])] = False
    """Write to stdout."""
    decompress: Annotated[bool, tyro.conf.arg(aliases=["-d"])] = False
    """Decompress instead, like `bit-transformer decompress`."""
    test: Annotated[bool, tyro.conf.arg(aliases=["-t"])] = False
    """Check compressed files without writing anything."""
    list: Annotated[bool, tyro.conf.arg(aliases=["-l"])] = False
    """List the blocks of compressed files."""
    force: Annotated[bool, tyro.conf.arg(aliases=["-f"])] = False
    """Replace the output if it exists. A symbolic link stays, and its target is replaced."""
    keep: Annotated[bool, tyro.conf.arg(aliases=["-k"])] = False
    """Keep the input. This is the default, and it overrides --rm."""
    rm: bool = False
    """Remove the input once the output is safe on disk."""
    level: Annotated[Literal[1, 2, 3, 4, 5, 6, 7, 8, 9], tyro.conf.arg(metavar="1..9")] = 6
    """Also -1 to -9: 1 uses the least memory, 9 makes the smallest files. Codec options override
    it."""
    threads: Annotated[int, tyro.conf.arg(aliases=["-T"])] = 0
    """Threads for the model; 0 means one per core. The compressed file is the same for any
    number."""
    memory_limit: Annotated[str | None, tyro.conf.arg(aliases=["-M"], metavar="SIZE")] = None
    """Largest memory for blocks and tables, such as 512MiB or 50%. By default half of the
    machine's."""
    given: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Similar file to use as a dictionary. Decompressing needs the same file."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print errors only."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Also print settings, memory and time."""
    json: bool = False
    """Print the result as JSON."""
    codec: CodecConfig = field(default_factory=CodecConfig)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    split = split_words(words)
    if any(word in _INSTEAD for word in split.options):
        decompress.run(_for_decompress(split).ordered())
        return
    level = split.level if split.level in LEVELS else _DEFAULT_LEVEL
    default = CompressArguments(codec=LEVELS[level])
    arguments = parse(CompressArguments, split.ordered(), command="compress", default=default)
    model, files = run_and_files(split, "compress")
    settings, limit = Settings.of(arguments, files), memory_limit_of(arguments.memory_limit)
    shared = shared_of(model, arguments.given, arguments.threads)
    each_file(files, settings, lambda name: _compress(name, arguments, settings, shared, limit))


def _compress(
    name: str, arguments: CompressArguments, settings: Settings, shared: "Shared", limit: int
) -> dict[str, Any]:
    from bit_transformer.compression.encoding import compress_stream, memory_to_compress
    from bit_transformer.compression.memory_limit import shown

    sink_name = destination(name, settings, lambda file: f"{file}{SUFFIX}")
    check_terminal(sink_name, force=settings.force)
    began, config = time.monotonic(), arguments.codec
    hidden = settings.quiet or settings.json
    with reading(name) as source:
        with (
            writing(sink_name, source, force=settings.force) as sink,
            codec_bar("compressing", source.length, hidden=hidden) as progress,
        ):
            done = compress_stream(
                source,
                sink,
                shared=shared,
                config=config,
                length=source.length,
                progress=progress,
                memory_limit=limit,
            )
        _warn_of_changes(name, source, done, settings)
        remove_input(name, source, sink_name, settings)
    _tell(sink_name, done, settings)
    if settings.verbose:
        memory = shown(memory_to_compress(config, shared, done.raw_bytes))
        seconds = time.monotonic() - began
        settings.tell(
            f"  level {arguments.level}, blocks of {config.block_bytes:,} bytes, tables of "
            f"2^{config.table_bits} entries, at most {memory}, {seconds:.1f} s"
        )
    report = {"file": name, "out": sink_name, **asdict(done)}
    return {**report, "bits_per_byte": done.bits_per_byte}


def _warn_of_changes(name: str, source: Input, done: "Compressed", settings: Settings) -> None:
    if source.has_changed() or source.length not in (None, done.raw_bytes):
        settings.warn(
            f"{name} changed while it was read; the compressed file holds the {done.raw_bytes:,} "
            "bytes that were read"
        )


def _tell(sink: str, done: "Compressed", settings: Settings) -> None:
    settings.tell(
        f"{'standard output' if sink == STANDARD else sink}: {done.coded_bytes:,} bytes for "
        f"{done.raw_bytes:,}, {done.bits_per_byte:.3f} bits per byte"
    )


def _for_decompress(split: Words) -> Words:
    """Return the words for `decompress`, which knows neither levels nor -d."""
    options, skip = list[str](), False
    for word in split.options:
        if not skip and word not in ("-d", "--decompress", "--level"):
            options.append(word)
        skip = word == "--level"
    return Words(options, split.names)
