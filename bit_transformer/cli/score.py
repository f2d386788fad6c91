"""Print the bits per byte of a file, and colour it by surprisal with --html."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName, load_model
from bit_transformer.cli.output import print_json
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import file_bytes, file_pieces, shown_name
from bit_transformer.errors import SourceError


@dataclass(frozen=True)
class ScoreArguments:
    """Print the bits per byte of a file under a trained model. Every byte counts."""

    run: RunName
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """File of any size. - is standard input, ./- a file called -."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write an HTML page that shows the file coloured by surprisal."""
    window_bytes: int | None = None
    """Bytes per window. By default the whole context."""
    overlap_bytes: int | None = None
    """Bytes of the previous window that a window repeats as context. By default half a window."""
    device: DeviceName = DEFAULT_DEVICE
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(ScoreArguments, words, command="score")
    found = (_paint if arguments.html else _sum)(arguments)
    report = {"file": shown_name(arguments.file)} | found
    if arguments.json:
        print_json(report)
        return
    print(
        f"{report['bits_per_byte']:.4f} bits per byte over {report['bytes']:,} bytes of "
        f"{report['file']}"
    )
    if arguments.html is not None:
        print(f"Coloured by surprisal: {shown_name(arguments.html)}")


def _sum(arguments: ScoreArguments) -> dict[str, Any]:
    """Return the report; reads the file in constant memory."""
    import numpy as np

    from bit_transformer.inference.score import scoring_window, stream_surprisal

    network = load_model(arguments.run, arguments.device).network
    window, overlap = scoring_window(network, arguments.window_bytes, arguments.overlap_bytes)
    pieces = (np.frombuffer(piece, np.uint8) for piece in file_pieces(arguments.file))
    bits = counted = 0.0
    for surprisal in stream_surprisal(network, pieces, window_bytes=window, overlap_bytes=overlap):
        bits += float(surprisal.sum(dtype=np.float64))
        counted += len(surprisal)
    if not counted:
        raise SourceError(f"{shown_name(arguments.file)} is empty; there is nothing to score")
    return {
        "bytes": int(counted),
        "bits_per_byte": bits / counted,
        "window_bytes": window,
        "overlap_bytes": overlap,
    }


def _paint(arguments: ScoreArguments) -> dict[str, Any]:
    """Return the report and write the page; the whole file is held in memory."""
    from bit_transformer.atomic import write_output
    from bit_transformer.inference.painting import paint

    assert arguments.html is not None
    model = load_model(arguments.run, arguments.device)
    data = file_bytes(arguments.file)
    if not data:
        raise SourceError(f"{shown_name(arguments.file)} is empty; there is nothing to score")
    score = model.score(
        data, window_bytes=arguments.window_bytes, overlap_bytes=arguments.overlap_bytes
    )
    name = shown_name(Path(arguments.file).name)
    write_output(arguments.html, paint(data, score, name=name).encode())
    return {
        "bytes": len(data),
        "bits_per_byte": score.bits_per_byte,
        "window_bytes": score.window_bytes,
        "overlap_bytes": score.overlap_bytes,
    }
