"""Upload a run or a checkpoint to a hub."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.arguments import RARE
from bit_transformer.cli.output import print_json
from bit_transformer.cli.parsing import parse


@dataclass(frozen=True)
class PushArguments:
    """Upload the newest checkpoint of a run, with a model card of the measured results.

    The settings and metrics of the run are uploaded too, and they include the paths of its data. A
    repository that does not exist is created, private unless --public is given.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    repository: Annotated[str, tyro.conf.Positional]
    """Name of the repository: user/name."""
    training: bool = False
    """Also upload the training state, to resume elsewhere. It is about twice as large as the
    weights."""
    public: bool = False
    """Make a new repository public."""
    hf_token: Annotated[str | None, RARE] = None
    """Token of the hub. HF_TOKEN and the hub's token file are safer: other users can see flags in
    the list of processes."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(PushArguments, words, command="push")
    from bit_transformer.cli.progress import transfer_bar
    from bit_transformer.hub.transfer import push

    with transfer_bar("upload") as progress:
        pushed = push(
            arguments.run,
            arguments.repository,
            token=arguments.hf_token,
            training=arguments.training,
            private=not arguments.public,
            progress=progress,
        )
    if arguments.json:
        print_json(dataclasses.asdict(pushed))
        return
    print(f"{pushed.files} files, {pushed.bytes:,} bytes: {pushed.url}")
    print(f"Try it anywhere: bit-transformer generate {pushed.repository} --prompt 'your text'")
