"""Command `watch`: run the tests on every change, and restart the server if they pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bit_transformer.cli.parsing import parse


@dataclass(frozen=True)
class WatchArguments:
    """Run the tests whenever a Python file changes, and restart the server if they pass.

    Running jobs continue across restarts.
    """

    paths: tuple[Path, ...] = (Path("bit_transformer"), Path("tests"))
    """Folders to watch."""
    tests: tuple[str, ...] = ("-x",)
    """Arguments for pytest, such as tests/server."""
    host: str = "127.0.0.1"
    """Address that the server listens on."""
    port: int = 7000
    """Port that the server listens on."""
    runs: Path = Path("runs")
    """Folder that holds the runs."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(WatchArguments, words, command="watch")
    from bit_transformer.server.reloader import (
        Reloader,
        pytest_command,
        python_changes,
        serve_command,
    )

    server = ["--host", arguments.host, "--port", str(arguments.port)]
    server += ["--runs", str(arguments.runs)]
    changes = python_changes(arguments.paths)
    Reloader(pytest_command(arguments.tests), serve_command(server)).run(changes)
