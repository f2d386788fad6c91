"""Decompress a file, or what can be saved of it."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.output import parse, print_json, print_table
from bit_transformer.cli.transfer import (
    STANDARD,
    Ends,
    progress_bar,
    reading,
    run_and_file,
    shared_of,
)
from bit_transformer.compression.container import SUFFIX
from bit_transformer.compression.decoding import (
    Recovered,
    decompress_stream,
    list_blocks,
    recover_stream,
)
from bit_transformer.compression.encoding import Shared
from bit_transformer.errors import ConfigError, ContainerError


@dataclass(frozen=True)
class DecompressArguments:
    """Give back what `bit-transformer compress` was given, checked to the last bit."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN] FILE")]
    """[RUN] FILE: the run that the file was compressed with, if any, and the file; - for stdin."""
    out: Path | None = None
    """Where to; by default FILE without .btz, or stdout for stdin; - for stdout."""
    force: bool = False
    """Replace the output if it exists."""
    given: Path | None = None
    """The file that --given named in compressing."""
    recover: bool = False
    """Save what can be saved of a damaged file; zeros fill what is missing, and each such stretch
    is named."""
    list: bool = False
    """Show how the file is made, and decompress nothing."""
    threads: int | None = None
    """Of the model; by default one for each core."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(DecompressArguments, words, command="decompress")
    model, file = run_and_file(arguments.paths, "decompress")
    if arguments.list:
        _list(file, as_json=arguments.json)
        return
    ends = Ends(file, arguments.out or _default_output(file))
    if ends.sink == STANDARD and (arguments.json or arguments.recover):
        raise ConfigError("--json and --recover need a file to write to; name it with --out")
    ends.check(force=arguments.force)
    shared = shared_of(model, arguments.given, arguments.threads)
    if arguments.recover:
        _recover(arguments, ends, shared)
        return
    with (
        progress_bar("decompressing", None, hidden=arguments.json) as progress,
        ends.opened() as (source, sink),
    ):
        raw_bytes = decompress_stream(source, sink, shared=shared, progress=progress)
    if arguments.json:
        print_json({"file": str(file), "out": str(ends.sink), "raw_bytes": raw_bytes})
    else:
        print(f"{ends.sink}: {raw_bytes:,} bytes", file=sys.stderr)


def _default_output(file: Path) -> Path:
    if file == STANDARD:
        return STANDARD
    if file.suffix != SUFFIX:
        raise ConfigError(f"{file} does not end in {SUFFIX}; name the output with --out")
    return file.with_suffix("")


def _recover(arguments: DecompressArguments, ends: Ends, shared: Shared) -> None:
    with (
        progress_bar("recovering", None, hidden=arguments.json) as progress,
        ends.opened() as (source, sink),
    ):
        found = recover_stream(source, sink, shared=shared, progress=progress)
    if arguments.json:
        print_json({"file": str(ends.source), "out": str(ends.sink), **asdict(found)})
    _tell(ends, found)


def _tell(ends: Ends, found: Recovered) -> None:
    """On stderr what is wrong and missing; an error, so that no script takes it for whole."""
    for line in found.damage:
        print(line, file=sys.stderr)
    for begin, end in found.missing:
        print(f"bytes {begin:,} to {end - 1:,} are missing; zeros stand there", file=sys.stderr)
    if not found.damage and not found.missing:
        print(f"{ends.sink}: {found.raw_bytes:,} bytes, nothing is missing", file=sys.stderr)
        return
    lost = sum(end - begin for begin, end in found.missing)
    raise ContainerError(
        f"{ends.source} is damaged: {found.raw_bytes - lost:,} of {found.raw_bytes:,} bytes are "
        f"recovered in {ends.sink}"
    )


def _list(file: Path, *, as_json: bool) -> None:
    with reading(file) as source:
        listing = list_blocks(source)
    if as_json:
        print_json(asdict(listing))
        return
    rows = [
        (str(block.index), f"{block.raw_bytes:,}", f"{block.coded_bytes:,}", str(block.lanes))
        for block in listing.blocks
    ]
    needs = f"needs the model {listing.network[:16]}..." if listing.network else "needs no model"
    title = f"{file}: {listing.raw_bytes:,} bytes, {needs}"
    title += f", given {listing.given[:16]}..." if listing.given else ""
    print_table(title, ("block", "bytes", "coded", "lanes"), rows)
    for line in listing.damage:
        print(line, file=sys.stderr)
