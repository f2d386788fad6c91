"""JSON and tables on standard output, the same way for every command."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(report: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document."""
    print(json.dumps(report, indent=2, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column is text and whose other columns are numbers."""
    from rich.console import Console
    from rich.table import Table

    class PipeConsole(Console):
        """Raises BrokenPipeError when the reader is gone; rich would end the process instead."""

        def on_broken_pipe(self) -> None:
            raise

    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # File names are plain text: rich must not read markup or emoji names in them.
    console = PipeConsole(file=sys.stdout, markup=False, emoji=False)
    # Printed apart from the table, because a title inside it is wrapped to the table's width.
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    console.print(table)


def print_comparison(ours: float, rivals: Mapping[str, float], data: str) -> None:
    """Print bits per byte of the model and of general compressors on the same bytes, best first.

    `data` says which bytes these are.
    """
    entries = sorted([("this model", ours), *rivals.items()], key=lambda entry: entry[1])
    rows = [
        (name, f"{value:.3f}", "" if name == "this model" else f"{ours / value:.2f}")
        for name, value in entries
    ]
    title = f"Bits per byte on {data} (lower is better)"
    print_table(title, ("", "bits/byte", "model / it"), rows)
