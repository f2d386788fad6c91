"""Pictures of telemetry: of a run while it trained, or along a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.output import parse, print_json, print_table
from bit_transformer.cli.streams import file_bytes, shown_name
from bit_transformer.errors import ConfigError, SourceError

Columns = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class TelemetryArguments:
    """Draw K, C, S and attention entropy of a run as it trained, or of a FILE along its bytes."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder; with a FILE also a checkpoint folder or an exported model."""
    file: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = None
    """File to read, - for standard input; the picture then shows readings along it."""
    limit: int = 16_384
    """Bytes of the file to read."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The picture, a PNG; by default readings.png in the run folder, and none for a FILE."""
    json: bool = False
    """Print the readings' first, last, lowest and highest values as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(TelemetryArguments, words, command="telemetry")
    if arguments.limit < 1:
        raise ConfigError(f"limit must be at least 1 byte, got {arguments.limit}")
    columns, out = _columns(arguments)
    if out is not None:
        _draw(arguments, columns, out)
    summary = {
        name: dict(zip(("first", "last", "lowest", "highest"), _four(values), strict=True))
        for name, values in columns.items()
        if name != "step"
    }
    if arguments.json:
        print_json({"picture": None if out is None else str(out), "readings": summary})
        return
    rows = [(name, *(f"{value:.3f}" for value in row.values())) for name, row in summary.items()]
    print_table("Readings", ("reading", "first", "last", "lowest", "highest"), rows)
    print(
        f"Picture: {shown_name(out)}" if out else "Name a picture with --out to see their course."
    )


def _columns(arguments: TelemetryArguments) -> tuple[Columns, Path | None]:
    """The readings and where their picture goes."""
    from bit_transformer.training.run_folder import run_of

    if arguments.file is not None:
        return _along(arguments.run, arguments.file, arguments.limit), arguments.out
    columns = _of_training(arguments.run)
    return columns, arguments.out or run_of(arguments.run).path / "readings.png"


def _draw(arguments: TelemetryArguments, columns: Columns, out: Path) -> None:
    from bit_transformer.checkpoint.atomic import write_output
    from bit_transformer.safety.gate import SafetyGate
    from bit_transformer.telemetry.plots import telemetry_picture

    floors = None
    if arguments.file is not None:
        gate = SafetyGate.from_pretrained(arguments.run) or SafetyGate()
        floors = dict(gate.policy.floors)
    write_output(out, telemetry_picture(columns, floors=floors))


def _of_training(run_folder: str) -> Columns:
    from bit_transformer.training.callbacks.metrics_log import read_metrics
    from bit_transformer.training.run_folder import run_of

    folder = run_of(run_folder)
    folder.config()
    records = [one for one in read_metrics(folder.metrics) if one["kind"] == "telemetry"]
    if not records:
        raise SourceError(
            f"{shown_name(run_folder)} has no telemetry of its training; train with "
            "telemetry-every above 0"
        )
    names = ["step", *records[0]["readings"]]
    flat = [{"step": one["step"], **one["readings"]} for one in records]
    return {name: [one[name] for one in flat] for name in names}


def _along(run_folder: str, file: str, limit: int) -> Columns:
    data = file_bytes(file, limit)
    if not data:
        raise SourceError(f"{shown_name(file)} is empty: there is nothing to read")
    import numpy as np
    import torch

    from bit_transformer.bits.codec import bytes_to_bits
    from bit_transformer.inference.watch import bit_readings
    from bit_transformer.lm import BitTransformerLM
    from bit_transformer.telemetry.stream import READING_FIELDS

    model = BitTransformerLM.from_pretrained(run_folder)
    bits = torch.from_numpy(bytes_to_bits(data, parity=model.config.parity))[None]
    (found,) = bit_readings(model.network, bits)
    patches = np.arange(1, len(found) + 1)
    return {
        "step": (patches * model.config.patch_size).tolist(),
        **{name: getattr(found, name).tolist() for name in READING_FIELDS},
    }


def _four(values: Sequence[float]) -> tuple[float, float, float, float]:
    return values[0], values[-1], min(values), max(values)
