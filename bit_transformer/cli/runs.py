"""The runs in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.output import parse, print_json, print_table
from bit_transformer.errors import SourceError
from bit_transformer.training.run_folder import find_runs


@dataclass(frozen=True)
class RunsArguments:
    """List the runs in a folder: how far they are and how good."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """Folder that holds run folders."""
    json: bool = False
    """Print the list as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(RunsArguments, words, command="runs")
    if not arguments.folder.is_dir():
        raise SourceError(f"{arguments.folder} is no folder; name one that holds run folders")
    summaries = [run_folder.summary() for run_folder in find_runs(arguments.folder)]
    if arguments.json:
        print_json(summaries)
        return
    rows = [
        (
            summary["run"],
            f"{summary['step']}/{summary['steps']}",
            "" if summary["bits_per_byte"] is None else f"{summary['bits_per_byte']:.3f}",
            "ended" if summary["ended"] else "under way or interrupted",
        )
        for summary in summaries
    ]
    print_table(
        f"Runs in {arguments.folder}", ("run", "steps", "held-out bits/byte", "state"), rows
    )
