"""A model with smaller weights, in a folder of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from bit_transformer.cli.output import parse, print_json
from bit_transformer.errors import SourceError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class QuantizeArguments:
    """Write a model with 8-bit weights, or with a trunk of 4-bit weights.

    The result is for inference: every command that takes RUN takes its folder.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """New folder for the quantized model."""
    to: Literal["int8", "int4"] = "int8"
    """int4 keeps the 4 bits that a model was trained in, and rounds one that was not."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to measure the loss on: bits per byte before and after."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(QuantizeArguments, words, command="quantize")
    from bit_transformer.lm import BitTransformerLM
    from bit_transformer.quantization import quantized, weight_bytes

    model = BitTransformerLM.from_pretrained(arguments.run)
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
        f"{arguments.to} weights in {arguments.out}: {after:,} bytes, {before / after:.2f} times "
        f"less than {before:,}"
    )
    if "bits_per_byte_after" in report:
        was, now = report["bits_per_byte_before"], report["bits_per_byte_after"]
        print(
            f"{now:.4f} bits per byte of {arguments.data}, {was:.4f} before ({now / was - 1:+.2%})"
        )
