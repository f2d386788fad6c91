"""Compress a file."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.output import parse, print_json
from bit_transformer.cli.transfer import (
    STANDARD,
    Ends,
    progress_bar,
    run_and_file,
    shared_of,
)
from bit_transformer.compression.container import SUFFIX
from bit_transformer.compression.encoding import CodecConfig, Compressed, compress_stream
from bit_transformer.errors import ConfigError


@dataclass(frozen=True)
class CompressArguments:
    """Compress any file without loss: FILE by context mixing, RUN FILE by that and a model.

    The input stays as it is. `bit-transformer decompress` needs the same RUN again.
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN] FILE")]
    """[RUN] FILE: the model's run, checkpoint or exported folder, and what to compress; - for
    stdin."""
    out: Path | None = None
    """Compressed file; by default FILE.btz, or stdout for stdin; - for stdout."""
    force: bool = False
    """Replace the output if it exists."""
    given: Path | None = None
    """File like this one, to learn from first; decompressing needs it again."""
    threads: int | None = None
    """Of the model; by default one for each core. They change nothing in the file."""
    json: bool = False
    """Print the result as JSON."""
    codec: CodecConfig = field(default_factory=CodecConfig)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(CompressArguments, words, command="compress")
    model, file = run_and_file(arguments.paths, "compress")
    ends = Ends(file, arguments.out or _default_output(file))
    if arguments.json and ends.sink == STANDARD:
        raise ConfigError("--json prints to stdout, where the compressed file goes; use --out")
    ends.check(force=arguments.force)
    shared = shared_of(model, arguments.given, arguments.threads)
    length = ends.length()
    with (
        progress_bar("compressing", length, hidden=arguments.json) as progress,
        ends.opened() as (source, sink),
    ):
        done = compress_stream(
            source, sink, shared=shared, config=arguments.codec, length=length, progress=progress
        )
    _report(arguments, ends, done)


def _default_output(file: Path) -> Path:
    return STANDARD if file == STANDARD else Path(f"{file}{SUFFIX}")


def _report(arguments: CompressArguments, ends: Ends, done: Compressed) -> None:
    if arguments.json:
        report = {"file": str(ends.source), "out": str(ends.sink), **asdict(done)}
        print_json({**report, "bits_per_byte": done.bits_per_byte})
        return
    print(
        f"{ends.sink}: {done.coded_bytes:,} bytes for {done.raw_bytes:,}, "
        f"{done.bits_per_byte:.3f} bits per byte",
        file=sys.stderr,
    )
