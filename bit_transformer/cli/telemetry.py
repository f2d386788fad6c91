"""Plot the metrics of a training run, or of a model along a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.arguments import Shown
from bit_transformer.cli.mixing_arguments import SHOWN, MixingArguments, mixed_source
from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName, load_model
from bit_transformer.cli.output import print_json, print_table
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import file_bytes, shown_name
from bit_transformer.errors import ConfigError, SourceError

Columns = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class TelemetryArguments:
    """Plot the metrics of a training run over its steps. With FILE, plot them along the file.

    The metrics of a training run are K, C, S and attention entropy; those of a file are K, C, S, T,
    U and surprisal. With FILE and --mix, they are adaptive: a context mixer joins the model, and
    learns from each byte after it has predicted the byte.
    """

    run: RunName
    file: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """File to read; - is standard input. Without FILE, RUN must be a run folder."""
    limit: int = 16_384
    """Number of bytes of FILE to read, at most."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Picture to write, a PNG. By default readings.png in the run folder; with FILE, no picture."""
    device: DeviceName = DEFAULT_DEVICE
    json: bool = False
    """Print the first, last, lowest and highest value of each metric as JSON."""
    mixing: Annotated[MixingArguments, Shown(*SHOWN)] = field(default_factory=MixingArguments)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(TelemetryArguments, words, command="telemetry")
    if arguments.limit < 1:
        raise ConfigError(f"limit must be at least 1 byte, got {arguments.limit}")
    if arguments.mixing.on and arguments.file is None:
        raise ConfigError("--mix and --given read a file with the model; name FILE as well")
    arguments.mixing.check(arguments.file)
    columns, out = _columns(arguments)
    if out is not None:
        _draw(arguments, columns, out)
    summary = {
        name: dict(zip(("first", "last", "lowest", "highest"), _summary(values), strict=True))
        for name, values in columns.items()
        if name != "step"
    }
    if arguments.json:
        picture = None if out is None else str(out)
        print_json({"picture": picture, "mix": arguments.mixing.on, "readings": summary})
        return
    rows = [(name, *(f"{value:.3f}" for value in row.values())) for name, row in summary.items()]
    print_table(_title(arguments), ("metric", "first", "last", "lowest", "highest"), rows)
    print(f"Picture: {shown_name(out)}" if out else "Name a picture with --out to plot them.")


def _title(arguments: TelemetryArguments) -> str:
    from bit_transformer.inference.painting import MIXED, STATIC

    if arguments.file is None:
        return "Metrics"
    return f"Metrics, {MIXED if arguments.mixing.on else STATIC}"


def _columns(arguments: TelemetryArguments) -> tuple[Columns, Path | None]:
    """Return the metrics, and the path of their picture if there is one."""
    from bit_transformer.training.run_folder import run_of

    if arguments.file is not None:
        return _along(arguments, arguments.file), arguments.out
    columns = _of_training(arguments.run)
    return columns, arguments.out or run_of(arguments.run).path / "readings.png"


def _draw(arguments: TelemetryArguments, columns: Columns, out: Path) -> None:
    from bit_transformer.atomic import write_output
    from bit_transformer.safety.gate import SafetyGate
    from bit_transformer.telemetry.plots import telemetry_picture

    floors = None
    if arguments.file is not None:
        gate = SafetyGate.from_pretrained(arguments.run) or SafetyGate()
        floors = dict(gate.policy.floors)
    write_output(out, telemetry_picture(columns, floors=floors))


def _of_training(run_folder: str) -> Columns:
    from bit_transformer.training.run_folder import read_metrics, run_of

    folder = run_of(run_folder)
    folder.config()
    records = [each for each in read_metrics(folder.metrics) if each["kind"] == "telemetry"]
    if not records:
        raise SourceError(
            f"{shown_name(run_folder)} has no telemetry; train with --telemetry-every above 0"
        )
    names = ["step", *records[0]["readings"]]
    rows = [{"step": record["step"], **record["readings"]} for record in records]
    return {name: [row[name] for row in rows] for name in names}


def _along(arguments: TelemetryArguments, file: str) -> Columns:
    data = file_bytes(file, arguments.limit)
    if not data:
        raise SourceError(f"{shown_name(file)} is empty; there is nothing to read")
    import numpy as np

    from bit_transformer.bits.tensor import bits_of
    from bit_transformer.inference.predictor import Source
    from bit_transformer.inference.watch import bit_metrics
    from bit_transformer.telemetry.stream import METRIC_FIELDS

    model = load_model(arguments.run, arguments.device)
    bits = bits_of(data, parity=model.config.parity)
    source: Source = model.network
    if arguments.mixing.on:
        source = mixed_source(
            model, arguments.run, arguments.mixing, sample=data, data_bytes=len(data)
        )
    (found,) = bit_metrics(source, bits)
    patches = np.arange(1, len(found) + 1)
    return {
        "step": (patches * model.config.patch_size).tolist(),
        **{name: getattr(found, name).tolist() for name in METRIC_FIELDS},
    }


def _summary(values: Sequence[float]) -> tuple[float, float, float, float]:
    return values[0], values[-1], min(values), max(values)
