"""Tables and JSON, the same way for every command."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bit_transformer.cli.parsing import parse, parse_known

__all__ = ["parse", "parse_known", "print_comparison", "print_json", "print_table"]


def print_json(report: Mapping[str, Any] | Sequence[Any]) -> None:
    """One JSON document on stdout."""
    print(json.dumps(report, indent=2, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; the first column is text, the others are figures."""
    from rich.console import Console
    from rich.table import Table

    class Pipe(Console):
        """Says that nobody reads any more, instead of ending the process by itself."""

        def on_broken_pipe(self) -> None:
            raise

    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # Names are text: no markup, no names of emoji.
    console = Pipe(file=sys.stdout, markup=False, emoji=False)
    # Apart from the table, whose width a title of its own would be wrapped to.
    console.print(title, style="bold", highlight=False, soft_wrap=True)
    console.print(table)


def print_comparison(ours: float, rivals: Mapping[str, float], data_bytes: int) -> None:
    """Bits per byte of the model and of general compressors on the same bytes, best first."""
    entries = sorted([("this model", ours), *rivals.items()], key=lambda entry: entry[1])
    rows = [
        (name, f"{value:.3f}", "" if name == "this model" else f"{ours / value:.2f}")
        for name, value in entries
    ]
    title = f"Bits per byte on {data_bytes:,} held-out bytes (lower is better)"
    print_table(title, ("", "bits/byte", "model / it"), rows)
