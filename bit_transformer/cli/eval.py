"""A model beside general compressors on the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from bit_transformer.cli.output import parse, print_comparison, print_json
from bit_transformer.data.corpus import Corpus
from bit_transformer.data.dataset import open_dataset
from bit_transformer.data.sources import resolve_sources
from bit_transformer.errors import SourceError
from bit_transformer.inference.baselines import COMPRESSORS, compressed_bits_per_byte
from bit_transformer.lm import BitTransformerLM
from bit_transformer.training.run_folder import run_of


@dataclass(frozen=True)
class EvalArguments:
    """Bits per byte of a model and of general compressors on the same bytes.

    The model has been trained before and the compressors have not: its weights are not counted.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    data: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
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
    pieces = _data(arguments)
    rivals = compressed_bits_per_byte(
        np.concatenate(pieces).tobytes(), [n for n in arguments.against.split(",") if n]
    )
    model = BitTransformerLM.from_pretrained(arguments.run)
    surprisals = [model.score(piece).surprisal for piece in pieces]
    ours = float(np.concatenate(surprisals).mean(dtype=np.float64))
    data_bytes = sum(len(piece) for piece in pieces)
    if arguments.json:
        print_json({"bytes": data_bytes, "bits_per_byte": ours, "baselines": rivals})
    else:
        print_comparison(ours, rivals, data_bytes)


def _data(arguments: EvalArguments) -> list[np.ndarray]:
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
        raise SourceError(f"{arguments.run} held nothing out; name DATA to evaluate on")
    return pieces
