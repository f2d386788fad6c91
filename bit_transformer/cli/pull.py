"""Download a run or a checkpoint from a hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.arguments import RARE
from bit_transformer.cli.output import print_json
from bit_transformer.cli.parsing import parse


@dataclass(frozen=True)
class PullArguments:
    """Download the newest checkpoint of a repository into a new folder.

    If the repository holds a run, the folder is a run folder, and every command takes it. Training
    resumes in it if the training state was uploaded.
    """

    repository: Annotated[str, tyro.conf.Positional]
    """Name of the repository: user/name, or user/name@revision."""
    out: Path | None = None
    """New folder. By default runs/NAME."""
    weights_only: bool = False
    """Do not download the training state, which is only needed to resume."""
    hf_token: Annotated[str | None, RARE] = None
    """Token of the hub. HF_TOKEN and the hub's token file are safer: other users can see flags in
    the list of processes."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(PullArguments, words, command="pull")
    from bit_transformer.checkpoint.format import read_manifest
    from bit_transformer.checkpoint.locate import locate_checkpoint
    from bit_transformer.cli.progress import transfer_bar
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
    print(f"Try it: bit-transformer generate {folder} --prompt 'your text'")
