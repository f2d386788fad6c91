"""Bits per byte of a file, painted by surprisal if asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from bit_transformer.checkpoint.atomic import atomic_write_text
from bit_transformer.cli.output import parse, print_json
from bit_transformer.errors import SourceError
from bit_transformer.inference.painting import paint
from bit_transformer.lm import BitTransformerLM


@dataclass(frozen=True)
class ScoreArguments:
    """Bits per byte of a file under a trained model, every byte counted."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    file: Annotated[Path, tyro.conf.Positional]
    """File to score."""
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
    try:
        data = np.fromfile(arguments.file, dtype=np.uint8)
    except OSError as error:
        raise SourceError(f"cannot read {arguments.file}: {error.strerror}") from error
    model = BitTransformerLM.from_pretrained(arguments.run)
    score = model.score(
        data, window_bytes=arguments.window_bytes, overlap_bytes=arguments.overlap_bytes
    )
    if arguments.html is not None:
        atomic_write_text(arguments.html, paint(data.tobytes(), score, name=arguments.file.name))
    report = {
        "file": str(arguments.file),
        "bytes": len(data),
        "bits_per_byte": score.bits_per_byte,
        "window_bytes": score.window_bytes,
        "overlap_bytes": score.overlap_bytes,
    }
    if arguments.json:
        print_json(report)
        return
    print(f"{score.bits_per_byte:.4f} bits per byte over {len(data):,} bytes of {arguments.file}")
    if arguments.html is not None:
        print(f"Painted by surprisal: {arguments.html}")
