"""A run or a checkpoint from a hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.arguments import RARE
from bit_transformer.cli.output import parse, print_json


@dataclass(frozen=True)
class PullArguments:
    """Download the newest checkpoint of a repository into a new folder.

    It is a run folder where the repository holds a run: every command takes it, and training can be
    resumed in it where its training state was uploaded.
    """

    repository: Annotated[str, tyro.conf.Positional]
    """As in user/name, or user/name@revision."""
    out: Path | None = None
    """New folder; by default runs/NAME."""
    weights_only: bool = False
    """Leave the training state, which only resuming needs, where it is."""
    hf_token: Annotated[str | None, RARE] = None
    """The hub's token; better left to HF_TOKEN or the hub's token file, which no list of processes
    shows."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(PullArguments, words, command="pull")
    from bit_transformer.checkpoint.format import read_manifest
    from bit_transformer.checkpoint.locate import locate_checkpoint
    from bit_transformer.cli.transfers import transfer_bar
    from bit_transformer.hub.identity import HubId
    from bit_transformer.hub.transfer import pull

    name = HubId.parse(arguments.repository).repository.split("/")[1]
    out = Path("runs") / name if arguments.out is None else arguments.out
    with transfer_bar("download") as progress:
        folder = pull(
            arguments.repository,
            out,
            token=arguments.hf_token,
            training=not arguments.weights_only,
            progress=progress,
        )
    manifest = read_manifest(locate_checkpoint(folder))
    report = {
        "folder": str(folder),
        "step": manifest["metadata"].get("step"),
        "held_out_bits_per_byte": manifest["metadata"].get("held_out_bits_per_byte"),
        "resumable": manifest.get("training") is not None,
    }
    if arguments.json:
        print_json(report)
        return
    print(f"{arguments.repository} is in {folder}")
    print(f"Go on: bit-transformer generate {folder} --prompt 'your text'")
