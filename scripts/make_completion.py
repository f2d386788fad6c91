"""Write completion.json, the table of all flags that shell completion reads."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from unittest import mock

from bit_transformer.cli import parsing
from bit_transformer.cli.arguments import Option
from bit_transformer.cli.commands import COMMANDS, module_of
from bit_transformer.cli.completion import TABLE, Table, Takes


def options_of_command(command: str) -> list[Option]:
    """Return the options of a command, by asking for its help and keeping what it would show."""
    seen: list[Option] = []

    def page(command: str, about: str, options: Sequence[Option], *, everything: bool) -> str:
        seen.extend(options)
        return ""

    silence = redirect_stdout(io.StringIO())
    with mock.patch.object(parsing, "help_page", page), silence, suppress(SystemExit):
        module_of(command).run(["--help"])
    return seen


def current_table() -> Table:
    """Return the table for the commands as they are now."""
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
    """Return the content of the table's file."""
    return json.dumps(table, indent=1) + "\n"


if __name__ == "__main__":
    TABLE.write_text(written(current_table()), encoding="utf-8")
