"""Compare a model with general compressors on the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName, load_model
from bit_transformer.cli.output import print_comparison, print_json
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import shown_name
from bit_transformer.errors import ConfigError, SourceError
from bit_transformer.inference.baselines import (
    COMPRESSORS,
    compressed_bits_per_byte,
    require_compressors,
)

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class EvalArguments:
    """Compare the bits per byte of a model and of general compressors on the same bytes.

    The comparison favours the model: it was trained beforehand, and its weights are not counted.
    """

    run: RunName
    data: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = ()
    """Files, folders or globs. Without DATA, the held-out data of the run."""
    against: str = ",".join(COMPRESSORS)
    """Names of compressors, separated by commas."""
    limit: int | None = None
    """Number of bytes to read, at most."""
    device: DeviceName = DEFAULT_DEVICE
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(EvalArguments, words, command="eval")
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"limit must be at least 1 byte, got {arguments.limit}")
    names = [name.strip() for name in arguments.against.split(",") if name.strip()]
    require_compressors(names)
    import numpy as np

    model = load_model(arguments.run, arguments.device)
    pieces = _data(arguments)
    rivals = compressed_bits_per_byte(np.concatenate(pieces).tobytes(), names)
    surprisals = [model.score(piece).surprisal for piece in pieces]
    ours = float(np.concatenate(surprisals).mean(dtype=np.float64))
    data_bytes = sum(len(piece) for piece in pieces)
    if arguments.json:
        print_json({"bytes": data_bytes, "bits_per_byte": ours, "baselines": rivals})
    else:
        what = "bytes" if arguments.data else "held-out bytes"
        print_comparison(ours, rivals, f"{data_bytes:,} {what}")


def _data(arguments: EvalArguments) -> "list[np.ndarray]":
    from bit_transformer.data.corpus import Corpus
    from bit_transformer.data.sources import resolve_sources
    from bit_transformer.training.run_folder import data_of, run_of

    if arguments.data:
        paths = resolve_sources(arguments.data, spool=run_of(arguments.run).data)
        corpus = Corpus(paths)
        size = corpus.size if arguments.limit is None else min(corpus.size, arguments.limit)
        return [corpus.read(0, size)]
    pieces = list(data_of(arguments.run).held_out_bytes(arguments.limit))
    if not pieces:
        raise SourceError(
            f"{shown_name(arguments.run)} has no held-out data; name DATA to evaluate on"
        )
    return pieces
