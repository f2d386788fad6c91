"""A run or a checkpoint to a hub."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.arguments import RARE
from bit_transformer.cli.output import parse, print_json


@dataclass(frozen=True)
class PushArguments:
    """Upload the newest checkpoint of a run with a model card of its measured figures.

    The run's settings and metrics go with it, the paths of its data among them. A repository that
    is not there is made, private unless told otherwise.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    repository: Annotated[str, tyro.conf.Positional]
    """Where to, as in user/name."""
    training: bool = False
    """Also upload what going on with the training needs, about twice the weights again."""
    public: bool = False
    """Have a new repository seen by everybody."""
    hf_token: Annotated[str | None, RARE] = None
    """The hub's token; better left to HF_TOKEN or the hub's token file, which no list of processes
    shows."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(PushArguments, words, command="push")
    from bit_transformer.cli.transfers import transfer_bar
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
    print(f"Anywhere: bit-transformer generate {pushed.repository} --prompt 'your text'")
