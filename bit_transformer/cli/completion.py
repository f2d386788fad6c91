"""Shell completion, from a table of all flags.

`scripts/make_completion.py` makes the table from the commands' arguments, and a test fails when it
is out of date. Thus completing a word starts no Python, and printing a script imports no command.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.parsing import parse

TABLE = Path(__file__).with_name("completion.json")

Takes = Literal["nothing", "text", "path", "value"] | list[str]
"""The kind of value that a flag takes, or the list of all values that it may have."""

Table = dict[str, dict[str, Takes]]
"""The flags of each command."""


@dataclass(frozen=True)
class CompletionArguments:
    """Print a script that makes a shell complete commands and flags."""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """Name of the shell: bash, zsh or fish."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    shell = parse(CompletionArguments, words, command="completion").shell
    print({"bash": bash, "zsh": zsh, "fish": fish}[shell](table()))


def table() -> Table:
    """Read the flags of all commands."""
    found: Table = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def text_flags(command: str) -> set[str]:
    """Return the flags of a command whose value may be any text, even the name of a flag."""
    return {name for name, takes in table().get(command, {}).items() if takes == "text"}


def bash(flags: Table) -> str:
    """Return the script for bash. Words that are not in the table complete as files."""
    choices = "\n".join(
        f"    {shlex.quote(f'{command} {name}')}) words={shlex.quote(' '.join(values))};;"
        for command, name, values in _choices(flags)
    )
    names = "\n".join(
        f"    {command}) words={shlex.quote(' '.join(own))};;" for command, own in flags.items()
    )
    return f"""_bit_transformer() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
  local command=${{COMP_WORDS[1]}}
  if ((COMP_CWORD == 1)); then
    words={shlex.quote(" ".join(COMMANDS))}
  elif [[ $word == -* ]]; then
    case $command in
{names}
    esac
  else
    case "$command $before" in
{choices}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -o bashdefault -F _bit_transformer bit-transformer"""


def zsh(flags: Table) -> str:
    """Return the script for zsh. Evaluate it, or save it as _bit-transformer on zsh's fpath."""
    # zsh splits each item at its first colon, so a colon in the phrase is harmless.
    commands = "\n".join(f"    {shlex.quote(f'{name}:{what}')}" for name, what in COMMANDS.items())
    choices = "\n".join(
        f"    {shlex.quote(f'{command} {name}')}) compadd -- {' '.join(values)}; return;;"
        for command, name, values in _choices(flags)
    )
    names = "\n".join(
        f"    {command}) compadd -- {' '.join(own)};;" for command, own in flags.items()
    )
    return f"""#compdef bit-transformer
_bit_transformer() {{
  local -a commands=(
{commands}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  case "$words[2] $words[CURRENT-1]" in
{choices}
  esac
  if [[ $words[CURRENT] != -* ]]; then
    _files
    return
  fi
  case $words[2] in
{names}
  esac
}}
if [[ $funcstack[1] == _bit-transformer ]]; then
  _bit_transformer "$@"
else
  compdef _bit_transformer bit-transformer
fi"""


def fish(flags: Table) -> str:
    """Return the script for fish."""
    begin = "complete -c bit-transformer -n"
    lines = [
        f"{begin} __fish_use_subcommand -f -a {name} -d {_fish_quoted(phrase)}"
        for name, phrase in COMMANDS.items()
    ]
    for command, own in flags.items():
        for name, takes in own.items():
            spelled = f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
            value = {"nothing": "", "path": " -r -F"}.get(str(takes), " -x")
            chosen = f" -a {_fish_quoted(' '.join(takes))}" if isinstance(takes, list) else ""
            condition = _fish_quoted(f"__fish_seen_subcommand_from {command}")
            lines.append(f"{begin} {condition} {spelled}{value}{chosen}")
    return "\n".join(lines)


def _choices(flags: Table) -> Iterator[tuple[str, str, list[str]]]:
    for command, own in flags.items():
        for name, takes in own.items():
            if isinstance(takes, list):
                yield command, name, takes


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
