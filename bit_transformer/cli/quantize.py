"""Write a model with weights of 8 or 4 bits into a new folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName, load_model
from bit_transformer.cli.output import print_json
from bit_transformer.cli.parsing import parse
from bit_transformer.errors import SourceError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class QuantizeArguments:
    """Write a model with 8-bit weights, or with a trunk of 4-bit weights, for inference.

    Every command that takes RUN takes the new folder.
    """

    run: RunName
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """New folder for the quantized model."""
    to: Literal["int8", "int4"] = "int8"
    """Format of the weights. int4 is exact for a model that was trained in 4 bits, and rounds any
    other."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File on which to measure bits per byte before and after."""
    device: DeviceName = DEFAULT_DEVICE
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(QuantizeArguments, words, command="quantize")
    from bit_transformer.quantization import quantized, weight_bytes

    model = load_model(arguments.run, arguments.device)
    smaller = quantized(model, arguments.to)
    data = None if arguments.data is None else _read(arguments.data)
    smaller.save_pretrained(arguments.out)
    report: dict[str, Any] = {
        "out": str(arguments.out),
        "bytes_before": weight_bytes(model),
        "bytes_after": weight_bytes(smaller),
    }
    if data is not None:
        report["bits_per_byte_before"] = model.score(data).bits_per_byte
        report["bits_per_byte_after"] = smaller.score(data).bits_per_byte
    print_json(report) if arguments.json else _print(report, arguments)


def _read(path: Path) -> "np.ndarray":
    import numpy as np

    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _print(report: dict[str, Any], arguments: QuantizeArguments) -> None:
    before, after = report["bytes_before"], report["bytes_after"]
    print(
        f"{arguments.to} weights in {arguments.out}: {after:,} bytes instead of {before:,}, "
        f"{before / after:.2f} times smaller"
    )
    if "bits_per_byte_after" in report:
        was, now = report["bits_per_byte_before"], report["bits_per_byte_after"]
        print(
            f"{now:.4f} bits per byte of {arguments.data}, {was:.4f} before ({now / was - 1:+.2%})"
        )
