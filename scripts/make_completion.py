"""Writes the table that shell completion reads: the flags of all commands, from their arguments."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from unittest import mock

from bit_transformer.cli import parsing
from bit_transformer.cli.arguments import Option
from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.completion import TABLE, Table, Takes


def options_of_command(command: str) -> list[Option]:
    """What a command takes, as its help page shows it."""
    seen: list[Option] = []

    def page(command: str, about: str, options: Sequence[Option], *, everything: bool) -> str:
        seen.extend(options)
        return ""

    module = import_module(f"bit_transformer.cli.{command}")
    unseen = redirect_stdout(io.StringIO())
    with mock.patch.object(parsing, "help_page", page), unseen, suppress(SystemExit):
        module.run(["--help"])
    return seen


def current_table() -> Table:
    """The table as the commands are now."""
    return {command: _flags(options_of_command(command)) for command in COMMANDS}


def _flags(options: Sequence[Option]) -> dict[str, Takes]:
    found: dict[str, Takes] = {}
    for option in options:
        for name in option.names:
            found[name] = _takes(option)
            if not option.metavar and name.startswith("--"):
                found[f"--no-{name[2:]}"] = "nothing"
    return found | {name: "nothing" for name in ("--help", "--help-all", "--debug")}


def _takes(option: Option) -> Takes:
    if not option.metavar:
        return "nothing"
    if option.choices:
        return list(option.choices)
    if option.is_path:
        return "path"
    return "text" if option.is_text else "value"


def written(table: Table) -> str:
    """The table as it stands in its file."""
    return json.dumps(table, indent=1) + "\n"


if __name__ == "__main__":
    TABLE.write_text(written(current_table()), encoding="utf-8")
