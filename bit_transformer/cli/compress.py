"""Compress files without loss."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from bit_transformer.cli import decompress
from bit_transformer.cli.codec_files import (
    STANDARD,
    FileArguments,
    Input,
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
class CompressArguments(FileArguments):
    """Compress files without loss, by context mixing. With RUN, a trained model helps.

    FILE becomes FILE.btz, with the same permissions and times. FILE is kept unless --rm is given.
    Without FILE, standard input is compressed to standard output. A file that was compressed with
    RUN can only be decompressed with the same RUN.
    """

    decompress: Annotated[bool, tyro.conf.arg(aliases=["-d"])] = False
    """Decompress instead, like `bit-transformer decompress`."""
    level: Annotated[Literal[1, 2, 3, 4, 5, 6, 7, 8, 9], tyro.conf.arg(metavar="1..9")] = 6
    """Also -1 to -9: 1 uses the least memory, 9 makes the smallest files. Codec options override
    it."""
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
    arguments.check(files)
    limit = memory_limit_of(arguments.memory_limit)
    shared = shared_of(model, arguments.given, arguments.threads)
    each_file(files, arguments, lambda name: _compress(name, arguments, shared, limit))


def _compress(
    name: str, arguments: CompressArguments, shared: "Shared", limit: int
) -> dict[str, Any]:
    from bit_transformer.compression.encoding import compress_stream, memory_to_compress
    from bit_transformer.compression.memory_limit import shown

    sink_name = destination(name, arguments, lambda file: f"{file}{SUFFIX}")
    check_terminal(sink_name, force=arguments.force)
    began, config = time.monotonic(), arguments.codec
    hidden = arguments.quiet or arguments.json
    with reading(name) as source:
        with (
            writing(sink_name, source, force=arguments.force) as sink,
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
        _warn_of_changes(name, source, done, arguments)
        remove_input(name, source, sink_name, arguments)
    _tell(sink_name, done, arguments)
    if arguments.verbose:
        memory = shown(memory_to_compress(config, shared, done.raw_bytes))
        seconds = time.monotonic() - began
        arguments.tell(
            f"  level {arguments.level}, blocks of {config.block_bytes:,} bytes, tables of "
            f"2^{config.table_bits} entries, at most {memory}, {seconds:.1f} s"
        )
    report = {"file": name, "out": sink_name, **asdict(done)}
    return {**report, "bits_per_byte": done.bits_per_byte}


def _warn_of_changes(
    name: str, source: Input, done: "Compressed", arguments: FileArguments
) -> None:
    if source.has_changed() or source.length not in (None, done.raw_bytes):
        arguments.warn(
            f"{name} changed while it was read; the compressed file holds the {done.raw_bytes:,} "
            "bytes that were read"
        )


def _tell(sink: str, done: "Compressed", arguments: FileArguments) -> None:
    arguments.tell(
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
