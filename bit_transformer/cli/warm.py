"""Let the context mixer of a run learn files, and save it beside the run."""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bit_transformer.cli.codec_files import memory_limit_of
from bit_transformer.cli.model_arguments import RunName
from bit_transformer.cli.output import print_json
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.progress import codec_bar
from bit_transformer.cli.streams import STANDARD_INPUT, file_pieces, shown_name
from bit_transformer.compression.config import MAX_TABLE_BITS, MIN_TABLE_BITS
from bit_transformer.compression.memory_limit import check_memory
from bit_transformer.errors import ConfigError, SourceError, require

if TYPE_CHECKING:
    import numpy as np

    from bit_transformer.compression.mixer import Mixer


_PART_BYTES = 1 << 17
"""Bytes learned between two chances to stop, which is less than a second."""


@dataclass(frozen=True)
class WarmArguments:
    """Let the context mixer of a run learn files, and save it as mixer.safetensors in RUN.

    The mixer learns the files in order, as one sequence of bytes. `score`, `generate`, `telemetry`
    and `gate` begin with it when they mix. The model itself learns nothing, so the mixer stays
    valid when RUN is trained further. RUN must be a folder on this machine.
    """

    run: RunName
    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ()
    """Files to learn, at least one. - is standard input, ./- a file called -."""
    append: bool = False
    """Go on from the mixer that RUN has already. By default the new mixer replaces it."""
    table_bits: int | None = None
    """The mixer's hash table has 2**table_bits entries of 64 bytes, by default 2**20. A larger one
    remembers more, and makes the file larger. With --append it stays as it is."""
    memory_limit: Annotated[str | None, tyro.conf.arg(metavar="SIZE")] = None
    """Largest memory to use, such as 512MiB or 50%. By default half of the machine's."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(WarmArguments, words, command="warm")
    _check(arguments)
    total = _size_of(arguments.files)
    path = _path(arguments.run)
    from bit_transformer.compression.mixer_file import save_warmed, stamp_of

    since, began = stamp_of(path), time.monotonic()
    with codec_bar("learning", total, hidden=arguments.json) as progress:
        pieces = _pieces(arguments.files, progress)
        mixer, learned = _mixer(arguments, path, pieces, total or 0)
    save_warmed(path, mixer, since, append=arguments.append)
    report = {"learned_bytes": learned, "seconds": time.monotonic() - began}
    _print(arguments, path, mixer, report)


def _check(arguments: WarmArguments) -> None:
    if not arguments.files:
        raise ConfigError("warm needs FILE; see bit-transformer warm --help")
    if arguments.files.count(STANDARD_INPUT) > 1:
        raise ConfigError(
            "standard input can be read only once, and - was given twice; name a file instead"
        )
    if (bits := arguments.table_bits) is not None:
        limit = f"in [{MIN_TABLE_BITS}, {MAX_TABLE_BITS}]"
        require(MIN_TABLE_BITS <= bits <= MAX_TABLE_BITS, "table_bits", bits, limit)


def _path(run: str) -> Path:
    """Return the path of the mixer's file; raise an error unless RUN is a local run or model."""
    if not Path(run).is_dir():
        raise ConfigError(
            f"RUN must be a folder on this machine, because the mixer is saved in it, got "
            f"{shown_name(run)}; fetch a model from a hub with bit-transformer pull first"
        )
    from bit_transformer.checkpoint.locate import locate_checkpoint
    from bit_transformer.compression.mixer_file import mixer_path

    return mixer_path(locate_checkpoint(run))


def _size_of(names: Sequence[str]) -> int | None:
    """Return the size of all files, None if one is a stream; raise `SourceError` if one is missing,
    before any is learned."""
    total, known = 0, True
    for name in names:
        try:
            status = None if name == STANDARD_INPUT else os.stat(name)
        except OSError as error:
            raise SourceError(f"cannot read {shown_name(name)}: {error.strerror}") from error
        except ValueError as error:
            raise SourceError(f"cannot read {shown_name(name)}: {error}") from error
        if status is None or not stat.S_ISREG(status.st_mode):
            known = False
        else:
            total += status.st_size
    return total if known else None


def _pieces(names: Sequence[str], progress: Callable[[int], None]) -> "Iterator[np.ndarray]":
    """Yield the bytes of all files piece by piece, and report each when the next is taken."""
    import numpy as np

    for name in names:
        for piece in file_pieces(name):
            content = np.frombuffer(piece, np.uint8)
            for part in np.split(content, range(_PART_BYTES, len(content), _PART_BYTES)):
                yield part
                progress(len(part))


def _mixer(
    arguments: WarmArguments, path: Path, pieces: "Iterator[np.ndarray]", data_bytes: int
) -> "tuple[Mixer, int]":
    """Return the mixer of --append, or a new one, after it has learned all pieces, and their
    number of bytes."""
    from bit_transformer.compression.mixer_file import mixer_to_warm

    first = next(pieces, None)
    if first is None:
        names = ", ".join(map(shown_name, arguments.files))
        raise SourceError(f"{names}: 0 bytes; there is nothing to learn")
    mixer = mixer_to_warm(path, first, append=arguments.append, table_bits=arguments.table_bits)
    _check_memory(arguments, mixer, data_bytes)
    before = mixer.bits_read
    mixer.learn_pieces(_within_memory(arguments, mixer, chain([first], pieces)))
    return mixer, (mixer.bits_read - before) // 8


def _within_memory(
    arguments: WarmArguments, mixer: "Mixer", pieces: "Iterator[np.ndarray]"
) -> "Iterator[np.ndarray]":
    """Yield the pieces; raise an error at one that needs too much memory. The length of a stream is
    not known before."""
    for piece in pieces:
        _check_memory(arguments, mixer, len(piece))
        yield piece


def _check_memory(arguments: WarmArguments, mixer: "Mixer", data_bytes: int) -> None:
    from bit_transformer.compression.contexts import CONTEXTS
    from bit_transformer.compression.mixer import require_room
    from bit_transformer.compression.tables import table_bytes

    history, contexts = mixer.bits_read // 8 + data_bytes, CONTEXTS[mixer.profile]
    require_room(history)
    tables = table_bytes(history, mixer.table_bits, contexts, network=True)
    # The content of the file is a second copy. The history doubles whenever its room is used up.
    check_memory(2 * tables + history, memory_limit_of(arguments.memory_limit), "warming the mixer")


def _print(arguments: WarmArguments, path: Path, mixer: "Mixer", report: dict[str, Any]) -> None:
    from bit_transformer.compression.contexts import BINARY

    report |= {
        "remembered_bytes": mixer.bits_read // 8,
        "mixer": str(path),
        "file_bytes": path.stat().st_size,
        "table_bits": mixer.table_bits,
        "contexts": "binary" if mixer.profile == BINARY else "text",
    }
    if arguments.json:
        print_json(report)
        return
    learned, seconds = report["learned_bytes"], report["seconds"]
    print(f"Learned {learned:,} bytes in {seconds:.1f} s, by contexts of {report['contexts']} data")
    print(
        f"{shown_name(path)} has {report['file_bytes']:,} bytes and remembers "
        f"{report['remembered_bytes']:,}"
    )
