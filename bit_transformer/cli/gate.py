"""What the safety gate of a model lets pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bit_transformer.cli.output import parse, print_json, print_table
from bit_transformer.cli.streams import file_bytes
from bit_transformer.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from bit_transformer.lm import BitTransformerLM


@dataclass(frozen=True)
class GateArguments:
    """Share of windows that pass a model's gate, the calibrated one and the documented floors.

    Without FILES the windows are held-out ones of the run that the calibration did not see. The
    first half of each window counts as its prompt.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder; with FILES also a checkpoint folder or an exported model."""
    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ()
    """Files to judge."""
    limit: int = 1600
    """Windows at most, spread over the data."""
    json: bool = False
    """Print as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(GateArguments, words, command="gate")
    if arguments.limit < 1:
        raise ConfigError(f"limit must be at least 1 window, got {arguments.limit}")
    from bit_transformer.lm import BitTransformerLM
    from bit_transformer.safety.calibration import passing_shares
    from bit_transformer.safety.gate import SafetyGate

    model = BitTransformerLM.from_pretrained(arguments.run)
    windows = _windows(model, arguments)
    gates = {"documented floors": SafetyGate()}
    calibrated = SafetyGate.from_pretrained(arguments.run)
    if calibrated is not None:
        gates = {"calibrated with the model": calibrated} | gates
    shares = passing_shares(model.network, windows, list(gates.values()))
    report: list[dict[str, Any]] = [
        {
            "gate": name,
            "floors": dict(gate.policy.floors),
            "windows": len(windows),
            "passing_share": share,
        }
        for (name, gate), share in zip(gates.items(), shares, strict=True)
    ]
    if arguments.json:
        print_json(report)
        return
    rows = [
        (
            str(row["gate"]),
            ", ".join(f"{key.upper()} {floor:.3g}" for key, floor in row["floors"].items()),
            f"{row['passing_share']:.2%}",
        )
        for row in report
    ]
    print_table(f"{len(windows):,} windows let pass", ("gate", "floors", "passing"), rows)


def _windows(model: "BitTransformerLM", arguments: GateArguments) -> "np.ndarray":
    """Stretches of bytes, (count, window)."""
    import numpy as np

    from bit_transformer.data.dataset import open_dataset
    from bit_transformer.safety.calibration import gate_windows
    from bit_transformer.training.run_folder import run_of

    if arguments.files:
        regions = (np.frombuffer(file_bytes(name), np.uint8) for name in arguments.files)
        return gate_windows(model.network, regions, arguments.limit)
    folder = run_of(arguments.run)
    settings = folder.config()
    dataset = open_dataset(settings.data, window_bytes=settings.window_bytes, spool=folder.data)
    return gate_windows(model.network, dataset.held_out_bytes(), 2 * arguments.limit)[1::2]
