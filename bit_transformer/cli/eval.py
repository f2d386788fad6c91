"""A model beside general compressors on the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from bit_transformer.cli.output import parse, print_comparison, print_json
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
    """Bits per byte of a model and of general compressors on the same bytes.

    The model has been trained before and the compressors have not: its weights are not counted.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, checkpoint folder or exported model."""
    data: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = ()
    """Files, folders or globs; without any, the data that the run held out."""
    against: str = ",".join(COMPRESSORS)
    """Compressors, separated by commas."""
    limit: int | None = None
    """Read only so many bytes."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(EvalArguments, words, command="eval")
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"limit must be at least 1 byte, got {arguments.limit}; leave it out")
    names = [name.strip() for name in arguments.against.split(",") if name.strip()]
    require_compressors(names)
    import numpy as np

    from bit_transformer.lm import BitTransformerLM

    pieces = _data(arguments)
    rivals = compressed_bits_per_byte(np.concatenate(pieces).tobytes(), names)
    model = BitTransformerLM.from_pretrained(arguments.run)
    surprisals = [model.score(piece).surprisal for piece in pieces]
    ours = float(np.concatenate(surprisals).mean(dtype=np.float64))
    data_bytes = sum(len(piece) for piece in pieces)
    if arguments.json:
        print_json({"bytes": data_bytes, "bits_per_byte": ours, "baselines": rivals})
    else:
        print_comparison(ours, rivals, data_bytes)


def _data(arguments: EvalArguments) -> "list[np.ndarray]":
    from bit_transformer.data.corpus import Corpus
    from bit_transformer.data.dataset import open_dataset
    from bit_transformer.data.sources import resolve_sources
    from bit_transformer.training.run_folder import run_of

    if arguments.data:
        paths = resolve_sources(arguments.data, spool=run_of(arguments.run).data)
        corpus = Corpus(paths)
        size = corpus.size if arguments.limit is None else min(corpus.size, arguments.limit)
        return [corpus.read(0, size)]
    run_folder = run_of(arguments.run)
    config = run_folder.config()
    dataset = open_dataset(config.data, window_bytes=config.window_bytes, spool=run_folder.data)
    pieces = list(dataset.held_out_bytes(arguments.limit))
    if not pieces:
        raise SourceError(f"{shown_name(arguments.run)} held nothing out; name DATA to evaluate on")
    return pieces
