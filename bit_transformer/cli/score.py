"""Bits per byte of a file, painted by surprisal if asked."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from bit_transformer.checkpoint.atomic import atomic_write_text
from bit_transformer.cli.output import parse, print_json
from bit_transformer.errors import SourceError
from bit_transformer.inference.painting import paint
from bit_transformer.inference.score import scoring_window, stream_surprisal
from bit_transformer.lm import BitTransformerLM

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class ScoreArguments:
    """Bits per byte of a file under a trained model, every byte counted."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    file: Annotated[Path, tyro.conf.Positional]
    """File of any size to score, - for stdin."""
    html: Path | None = None
    """Also write a page that shows the file coloured by surprisal."""
    window_bytes: int | None = None
    """Bytes per window; by default the whole context."""
    overlap_bytes: int | None = None
    """Bytes of context that windows begin with, not counted; by default half a window."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(ScoreArguments, words, command="score")
    model = BitTransformerLM.from_pretrained(arguments.run)
    report = {"file": str(arguments.file)} | (_paint if arguments.html else _sum)(model, arguments)
    if arguments.json:
        print_json(report)
        return
    print(
        f"{report['bits_per_byte']:.4f} bits per byte over {report['bytes']:,} bytes of "
        f"{arguments.file}"
    )
    if arguments.html is not None:
        print(f"Painted by surprisal: {arguments.html}")


def _sum(model: BitTransformerLM, arguments: ScoreArguments) -> dict[str, Any]:
    """The report, in constant memory."""
    window, overlap = scoring_window(model.network, arguments.window_bytes, arguments.overlap_bytes)
    bits = counted = 0.0
    for surprisal in stream_surprisal(
        model.network, _pieces(arguments.file), window_bytes=window, overlap_bytes=overlap
    ):
        bits += float(surprisal.sum(dtype=np.float64))
        counted += len(surprisal)
    if not counted:
        raise SourceError(f"{arguments.file} is empty; there is nothing to score")
    return {
        "bytes": int(counted),
        "bits_per_byte": bits / counted,
        "window_bytes": window,
        "overlap_bytes": overlap,
    }


def _paint(model: BitTransformerLM, arguments: ScoreArguments) -> dict[str, Any]:
    """The report, and the page."""
    assert arguments.html is not None
    data = np.concatenate([np.zeros(0, np.uint8), *_pieces(arguments.file)])
    score = model.score(
        data, window_bytes=arguments.window_bytes, overlap_bytes=arguments.overlap_bytes
    )
    atomic_write_text(arguments.html, paint(data.tobytes(), score, name=arguments.file.name))
    return {
        "bytes": len(data),
        "bits_per_byte": score.bits_per_byte,
        "window_bytes": score.window_bytes,
        "overlap_bytes": score.overlap_bytes,
    }


def _pieces(path: Path) -> Iterator[np.ndarray]:
    """The bytes of a file, - being standard input."""
    try:
        with sys.stdin.buffer if str(path) == "-" else path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                yield np.frombuffer(piece, np.uint8)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
