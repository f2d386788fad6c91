"""Print the share of windows that a model's safety gate lets pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName, load_model
from bit_transformer.cli.output import print_json, print_table
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import file_bytes
from bit_transformer.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from bit_transformer.lm import BitTransformerLM


@dataclass(frozen=True)
class GateArguments:
    """Print the share of windows that pass a model's safety gate.

    There are two rows: one for the gate calibrated with the model, one for the documented floors.

    Without FILE, the windows are held-out windows of the run that the calibration did not use. The
    gate takes the first half of each window as a prompt and judges the second half.
    """

    run: RunName
    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ()
    """Files to test. They are needed unless RUN has held-out data."""
    limit: int = 1600
    """Number of windows, at most. They are spread over the data."""
    device: DeviceName = DEFAULT_DEVICE
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(GateArguments, words, command="gate")
    if arguments.limit < 1:
        raise ConfigError(f"limit must be at least 1 window, got {arguments.limit}")
    from bit_transformer.safety.calibration import passing_shares
    from bit_transformer.safety.gate import SafetyGate

    model = load_model(arguments.run, arguments.device)
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
    print_table(f"Share of {len(windows):,} windows that pass", ("gate", "floors", "passing"), rows)


def _windows(model: "BitTransformerLM", arguments: GateArguments) -> "np.ndarray":
    """Return windows of bytes, (count, bytes per window)."""
    import numpy as np

    from bit_transformer.safety.calibration import gate_windows
    from bit_transformer.training.run_folder import data_of

    if arguments.files:
        regions = (np.frombuffer(file_bytes(name), np.uint8) for name in arguments.files)
        return gate_windows(model.network, regions, arguments.limit)
    held_out = data_of(arguments.run).held_out_bytes()
    # The calibration has used the other half of the windows: those with even indices.
    return gate_windows(model.network, held_out, 2 * arguments.limit)[1::2]
