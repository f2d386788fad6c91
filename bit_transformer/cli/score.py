"""Print the bits per byte of a file, and colour it by surprisal with --html."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from bit_transformer.cli.arguments import Shown
from bit_transformer.cli.mixing_arguments import SHOWN, MixingArguments, mixed_source
from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName, load_model
from bit_transformer.cli.output import print_json
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import PIECE_BYTES, file_bytes, file_pieces, shown_name
from bit_transformer.errors import ConfigError, SourceError

if TYPE_CHECKING:
    import numpy as np

    from bit_transformer.inference.score import Score, Surprisals
    from bit_transformer.lm import BitTransformerLM


@dataclass(frozen=True)
class ScoreArguments:
    """Print the bits per byte of a file under a trained model. Every byte counts.

    The figure of the model alone is static: the model does not change while it reads. With --mix or
    --adapt there is a second figure, which is adaptive: something learns from each byte after the
    byte is scored. With --mix it is a context mixer that joins the model, with --adapt it is a part
    of the model itself.
    """

    run: RunName
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """File of any size. - is standard input, ./- a file called -."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write an HTML page that shows the file coloured by surprisal. With --mix or --adapt, the
    page shows the adaptive surprisal."""
    window_bytes: int | None = None
    """Bytes per window. By default the whole context."""
    overlap_bytes: int | None = None
    """Bytes of the previous window that a window repeats as context. By default half a window."""
    device: DeviceName = DEFAULT_DEVICE
    json: bool = False
    """Print the result as JSON. bits_per_byte is the static figure; with --mix or --adapt,
    adaptive_bits_per_byte is the adaptive one."""
    adapt: Annotated[Literal["head", "memory"] | None, tyro.conf.arg(metavar="PART")] = None
    """Part of a copy of the model that learns while it reads: head, which costs hardly any time, or
    memory, the head and the context memory, which takes several times as long."""
    mixing: Annotated[MixingArguments, Shown(*SHOWN)] = field(default_factory=MixingArguments)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(ScoreArguments, words, command="score")
    arguments.mixing.check(arguments.file)
    if arguments.adapt and arguments.mixing.on:
        raise ConfigError(
            "--adapt and --mix are two ways to learn while reading, and both together gain next to "
            "nothing over --mix alone; leave one out"
        )
    model = load_model(arguments.run, arguments.device)
    found = (_paint if arguments.html else _sum)(model, arguments)
    report = {"file": shown_name(arguments.file)} | found
    if arguments.json:
        print_json(report)
        return
    _print(report, arguments)
    if arguments.html is not None:
        print(f"Coloured by surprisal: {shown_name(arguments.html)}")


def _adaptive(arguments: ScoreArguments) -> str | None:
    """Return what the adaptive figure is called, or None without one."""
    from bit_transformer.inference.painting import ADAPTED, MIXED

    if arguments.adapt is not None:
        return ADAPTED[arguments.adapt]
    return MIXED if arguments.mixing.on else None


def _print(report: dict[str, Any], arguments: ScoreArguments) -> None:
    from bit_transformer.inference.painting import STATIC

    over = f"over {report['bytes']:,} bytes of {report['file']}"
    print(f"{report['bits_per_byte']:.4f} bits per byte, {STATIC}, {over}")
    if "adaptive_bits_per_byte" in report:
        print(f"{report['adaptive_bits_per_byte']:.4f} bits per byte, {_adaptive(arguments)}")


def _sum(model: "BitTransformerLM", arguments: ScoreArguments) -> dict[str, Any]:
    """Return the report. The file is read in constant memory, except that a mixer remembers it."""
    import numpy as np

    from bit_transformer.inference.score import scoring_window

    window, overlap = scoring_window(model.network, arguments.window_bytes, arguments.overlap_bytes)
    sums, counted = np.zeros(2 if _adaptive(arguments) else 1), 0
    for surprisals in _surprisals(model, arguments, window, overlap):
        sums += [surprisal.sum(dtype=np.float64) for surprisal in surprisals]
        counted += len(surprisals[0])
    if not counted:
        raise SourceError(_nothing(arguments))
    return _report(counted, *(sums / counted).tolist(), window=window, overlap=overlap)


def _report(count: int, *figures: float, window: int, overlap: int) -> dict[str, Any]:
    """Return the report of a static figure and, with a mixer, of an adaptive one."""
    named = dict(zip(("bits_per_byte", "adaptive_bits_per_byte"), figures, strict=False))
    return {"bytes": count, **named, "window_bytes": window, "overlap_bytes": overlap}


def _learner(
    model: "BitTransformerLM", arguments: ScoreArguments, sample: bytes, data_bytes: int | None
) -> "Callable[..., Iterable[Surprisals]] | None":
    """Return the function that yields static and adaptive surprisals, or None if nothing learns.
    The data begins with `sample`."""
    from bit_transformer.inference.dynamic_evaluation import adaptive_surprisal

    if arguments.adapt is not None:
        return partial(adaptive_surprisal, model.network, learns=arguments.adapt)
    if not arguments.mixing.on:
        return None
    mixing = arguments.mixing
    source = mixed_source(model, arguments.run, mixing, sample=sample, data_bytes=data_bytes)
    return source.surprisal


def _surprisals(
    model: "BitTransformerLM", arguments: ScoreArguments, window: int, overlap: int
) -> "Iterator[tuple[np.ndarray, ...]]":
    """Yield the surprisal of each byte stretch by stretch: static and, if something learns,
    adaptive."""
    import numpy as np

    from bit_transformer.inference.score import stream_surprisal

    pieces = (np.frombuffer(piece, np.uint8) for piece in file_pieces(arguments.file))
    first = next(pieces, np.zeros(0, np.uint8))
    # A piece that is not full is the whole file.
    whole = len(first) if len(first) < PIECE_BYTES else None
    learner = _learner(model, arguments, first.tobytes(), whole)
    windows, data = {"window_bytes": window, "overlap_bytes": overlap}, chain([first], pieces)
    if learner is None:
        yield from ((each,) for each in stream_surprisal(model.network, data, **windows))
    else:
        yield from learner(data, **windows)


def _paint(model: "BitTransformerLM", arguments: ScoreArguments) -> dict[str, Any]:
    """Return the report and write the page; the whole file is held in memory."""
    from bit_transformer.atomic import write_output
    from bit_transformer.inference.painting import STATIC, paint

    assert arguments.html is not None
    data = file_bytes(arguments.file)
    if not data:
        raise SourceError(_nothing(arguments))
    scores = _scores(model, arguments, data)
    figures = _adaptive(arguments) or STATIC
    page = paint(data, scores[-1], name=shown_name(Path(arguments.file).name), figures=figures)
    write_output(arguments.html, page.encode())
    return _report(
        len(data),
        *(score.bits_per_byte for score in scores),
        window=scores[0].window_bytes,
        overlap=scores[0].overlap_bytes,
    )


def _scores(
    model: "BitTransformerLM", arguments: ScoreArguments, data: bytes
) -> "tuple[Score, ...]":
    """Return the static score and, if something learns, the adaptive one."""
    from bit_transformer.inference.score import adaptive_score

    windows = {"window_bytes": arguments.window_bytes, "overlap_bytes": arguments.overlap_bytes}
    learner = _learner(model, arguments, data, len(data))
    if learner is None:
        return (model.score(data, **windows),)
    return adaptive_score(model.network, data, learner, **windows)


def _nothing(arguments: ScoreArguments) -> str:
    return f"{shown_name(arguments.file)} is empty; there is nothing to score"
