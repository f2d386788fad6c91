"""List the runs in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from bit_transformer.cli.output import print_json, print_table
from bit_transformer.cli.parsing import parse
from bit_transformer.errors import SourceError


@dataclass(frozen=True)
class RunsArguments:
    """List the runs in a folder, with their steps, held-out bits per byte and state."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """Folder that holds run folders."""
    json: bool = False
    """Print the list as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(RunsArguments, words, command="runs")
    if not arguments.folder.is_dir():
        raise SourceError(f"{arguments.folder} is not a folder; name one that holds run folders")
    from bit_transformer.training.run_folder import find_runs

    summaries = [run_folder.summary_or_problem() for run_folder in find_runs(arguments.folder)]
    if arguments.json:
        print_json(summaries)
        return
    rows = [_row(summary) for summary in summaries]
    print_table(
        f"Runs in {arguments.folder}", ("run", "steps", "held-out bits/byte", "state"), rows
    )


def _row(summary: dict[str, Any]) -> tuple[str, str, str, str]:
    if summary["problem"] is not None:
        return (summary["run"], "?", "", f"broken: {summary['problem']}")
    found = summary["bits_per_byte"]
    return (
        summary["run"],
        f"{summary['step']}/{summary['steps']}",
        "" if found is None else f"{found:.3f}",
        "ended" if summary["ended"] else "under way or interrupted",
    )
