"""Decompress files, or recover what is left of damaged ones."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bit_transformer.cli.codec_files import (
    STANDARD,
    FileArguments,
    destination,
    each_file,
    memory_limit_of,
    reading,
    remove_input,
    run_and_files,
    shared_of,
    writing,
)
from bit_transformer.cli.codec_words import split_words
from bit_transformer.cli.output import print_table
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.progress import codec_bar
from bit_transformer.compression.config import SUFFIX
from bit_transformer.errors import ConfigError, ContainerError

if TYPE_CHECKING:
    from bit_transformer.compression.decoding import Listing, Recovered
    from bit_transformer.compression.encoding import Shared


@dataclass(frozen=True)
class DecompressArguments(FileArguments):
    """Restore files that `bit-transformer compress` wrote. Checksums verify every byte.

    FILE.btz becomes FILE, with the same permissions and times. FILE.btz is kept unless --rm is
    given. Without FILE, standard input is decompressed to standard output. Concatenated files, as
    after `cat a.btz b.btz`, are all restored, one after the other.
    """

    recover: bool = False
    """Recover what is left of a damaged file. Zeros replace missing bytes, and their positions are
    printed."""


@dataclass(frozen=True)
class _Job:
    """The operations on one file, and what they share."""

    arguments: DecompressArguments
    shared: "Shared"
    memory_limit: int

    def decompress(self, name: str) -> dict[str, Any]:
        from bit_transformer.compression.decoding import decompress_stream

        began, sink_name = time.monotonic(), destination(name, self.arguments, _without_suffix)
        with reading(name) as source:
            with (
                writing(sink_name, source, force=self.arguments.force) as sink,
                self._progress("decompressing") as progress,
            ):
                raw_bytes = decompress_stream(
                    source,
                    sink,
                    shared=self.shared,
                    progress=progress,
                    memory_limit=self.memory_limit,
                )
            remove_input(name, source, sink_name, self.arguments)
        shown = "standard output" if sink_name == STANDARD else sink_name
        self.arguments.tell(f"{shown}: {raw_bytes:,} bytes")
        self._tell_time(began)
        return {"file": name, "out": sink_name, "raw_bytes": raw_bytes}

    def test(self, name: str) -> dict[str, Any]:
        from bit_transformer.compression.decoding import decompress_stream

        began = time.monotonic()
        with reading(name) as source, self._progress("testing") as progress:
            raw_bytes = decompress_stream(
                source,
                _NullSink(),
                shared=self.shared,
                progress=progress,
                memory_limit=self.memory_limit,
            )
        self.arguments.tell(f"{name}: intact, {raw_bytes:,} bytes")
        self._tell_time(began)
        return {"file": name, "whole": True, "raw_bytes": raw_bytes}

    def recover(self, name: str) -> dict[str, Any]:
        from bit_transformer.compression.decoding import recover_stream

        sink_name = destination(name, self.arguments, _without_suffix)
        if sink_name == STANDARD:
            raise ConfigError("--recover cannot write to a stream; name a file with --out")
        with (
            reading(name, rewindable=True) as source,
            writing(sink_name, source, force=self.arguments.force, seekable=True) as sink,
            self._progress("recovering") as progress,
        ):
            found = recover_stream(
                source,
                sink,
                shared=self.shared,
                progress=progress,
                memory_limit=self.memory_limit,
            )
        self._tell_damage(name, sink_name, found)
        return {"file": name, "out": sink_name, **asdict(found)}

    def list(self, name: str) -> dict[str, Any]:
        from bit_transformer.compression.decoding import list_blocks

        with reading(name, rewindable=True) as source:
            listing = list_blocks(source, memory_limit=self.memory_limit)
        if not self.arguments.json:
            _show(name, listing)
        _refuse_damage(name, listing.damage)
        return {"file": name, "raw_bytes": listing.raw_bytes, **asdict(listing)}

    def _tell_time(self, began: float) -> None:
        if self.arguments.verbose:
            self.arguments.tell(f"  {time.monotonic() - began:.1f} s")

    def _progress(self, title: str) -> Any:
        return codec_bar(title, None, hidden=self.arguments.quiet or self.arguments.json)

    def _tell_damage(self, name: str, sink: str, found: "Recovered") -> None:
        """Print what is damaged. Raise `ContainerError`, so that scripts notice."""
        if not found.damage and not found.missing:
            self.arguments.tell(f"{sink}: {found.raw_bytes:,} bytes, nothing is missing")
            return
        for line in found.damage:
            print(line, file=sys.stderr)
        for begin, end in found.missing:
            span = f"bytes {begin:,} to {end - 1:,}"
            print(f"{span} are missing and replaced by zeros", file=sys.stderr)
        lost = sum(end - begin for begin, end in found.missing)
        raise ContainerError(
            f"{name} is damaged: {found.raw_bytes - lost:,} of {found.raw_bytes:,} bytes are "
            f"recovered in {sink}"
        )


class _NullSink:
    """Discards bytes that only have to be checked."""

    def write(self, content: bytes, /) -> int:
        return len(content)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    split = split_words(words)
    arguments = parse(DecompressArguments, split.ordered(), command="decompress")
    model, files = run_and_files(split, "decompress")
    arguments.check(files)
    limit = memory_limit_of(arguments.memory_limit)
    if arguments.list:
        each_file(files, arguments, _Job(arguments, _nothing(), limit).list)
        return
    job = _Job(arguments, shared_of(model, arguments.given, arguments.threads), limit)
    work = job.test if arguments.test else job.recover if arguments.recover else job.decompress
    each_file(files, arguments, work)


def _nothing() -> "Shared":
    from bit_transformer.compression.encoding import NOTHING_SHARED

    return NOTHING_SHARED


def _without_suffix(name: str) -> str:
    if not name.endswith(SUFFIX) or name.endswith("/" + SUFFIX) or name == SUFFIX:
        raise ConfigError(f"{name} does not end in {SUFFIX}; name the output with --out")
    return name.removesuffix(SUFFIX)


def _show(name: str, listing: "Listing") -> None:
    """Print a table of blocks for each of the concatenated files."""
    for number, member in enumerate(listing.members, 1):
        rows = [
            (str(block.index), f"{block.raw_bytes:,}", f"{block.coded_bytes:,}", str(block.lanes))
            for block in member.blocks
        ]
        needs = f"needs the model {member.network[:16]}..." if member.network else "needs no model"
        which = f", {number} of {len(listing.members)}" if len(listing.members) > 1 else ""
        size = sum(block.raw_bytes for block in member.blocks)
        title = f"{name}{which}: {size:,} bytes, {needs}"
        title += f", needs the dictionary {member.given[:16]}..." if member.given else ""
        print_table(title, ("block", "bytes", "coded", "lanes"), rows)


def _refuse_damage(name: str, damage: "list[str]") -> None:
    """Print what is damaged, and raise `ContainerError` if anything is."""
    for line in damage:
        print(line, file=sys.stderr)
    if damage:
        raise ContainerError(
            f"{name} is damaged, see above; decompress --recover restores what is left"
        )
