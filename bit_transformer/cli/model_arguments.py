"""RUN and --device: the arguments of every command that loads a model."""

from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from bit_transformer.lm import BitTransformerLM

DEFAULT_DEVICE = "cpu"
"""Not "auto": devices round differently, and a seed promises the same samples on every machine."""

DeviceName = Annotated[
    str,
    tyro.conf.arg(
        metavar="DEVICE",
        help="Device that runs the model: cpu, cuda, cuda:1, ..., or auto for the first GPU, else "
        "the CPU.",
    ),
]
RunName = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="RUN",
        help="Run folder, checkpoint folder, exported model, or a model's name on a hub.",
    ),
]
"""A string, because a `Path` forgets the ./ that tells a folder from a name on a hub."""


def load_model(run: str, device: str) -> "BitTransformerLM":
    """Load a model for inference.

    Raises `ConfigError` for a device that cannot be used, before anything is read, and
    `CheckpointError` without a whole checkpoint.
    """
    from bit_transformer.device import pick_device
    from bit_transformer.lm import BitTransformerLM

    chosen = pick_device(device)
    return BitTransformerLM.from_pretrained(run, device=chosen)
