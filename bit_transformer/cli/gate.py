"""Print the share of windows that a model's safety gate lets pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bit_transformer.cli.arguments import Shown
from bit_transformer.cli.mixing_arguments import SHOWN, MixingArguments, mixed_source
from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName, load_model
from bit_transformer.cli.output import print_json, print_table
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import file_bytes
from bit_transformer.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from bit_transformer.inference.predictor import Source
    from bit_transformer.lm import BitTransformerLM


@dataclass(frozen=True)
class GateArguments:
    """Print the share of windows that pass a model's safety gate.

    There are two rows: one for the gate calibrated with the model, one for the documented floors.

    Without FILE, the windows are held-out windows of the run that the calibration did not use. The
    gate takes the first half of each window as a prompt and judges the second half.

    With --mix, the metrics are those of the model and a context mixer, which begins anew in each
    window. The floors stay those of the model alone. The share then says how well they fit what
    `generate` draws when it mixes too.
    """

    run: RunName
    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")] = ()
    """Files to test. They are needed unless RUN has held-out data."""
    limit: int = 1600
    """Number of windows, at most. They are spread over the data."""
    device: DeviceName = DEFAULT_DEVICE
    json: bool = False
    """Print the result as JSON."""
    mixing: Annotated[MixingArguments, Shown(*SHOWN)] = field(default_factory=MixingArguments)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(GateArguments, words, command="gate")
    if arguments.limit < 1:
        raise ConfigError(f"limit must be at least 1 window, got {arguments.limit}")
    arguments.mixing.check(*arguments.files)
    from bit_transformer.inference.painting import MIXED, STATIC
    from bit_transformer.safety.calibration import passing_shares
    from bit_transformer.safety.gate import SafetyGate

    model = load_model(arguments.run, arguments.device)
    windows = _windows(model, arguments)
    gates = {"documented floors": SafetyGate()}
    calibrated = SafetyGate.from_pretrained(arguments.run)
    if calibrated is not None:
        gates = {"calibrated with the model": calibrated} | gates
    source = _source(model, arguments, windows)
    shares = passing_shares(source, windows, list(gates.values()))
    report: list[dict[str, Any]] = [
        {
            "gate": name,
            "floors": dict(gate.policy.floors),
            "windows": len(windows),
            "mix": arguments.mixing.on,
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
    figures = MIXED if arguments.mixing.on else STATIC
    title = f"Share of {len(windows):,} windows that pass, by metrics that are {figures}"
    print_table(title, ("gate", "floors", "passing"), rows)


def _source(model: "BitTransformerLM", arguments: GateArguments, windows: "np.ndarray") -> "Source":
    """Return the model, mixed with a context mixer if the arguments ask for it."""
    if not arguments.mixing.on:
        return model.network
    sample = windows[:1].tobytes()
    return mixed_source(
        model, arguments.run, arguments.mixing, sample=sample, data_bytes=len(sample)
    )


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
