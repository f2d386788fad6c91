"""The page of --help and --help-all: plain text that fits the width of the terminal."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from bit_transformer.cli.arguments import Option
from bit_transformer.cli.commands import EXAMPLES

_MIN_WIDTH, _MAX_WIDTH = 30, 100
_COLUMN = 26
"""Column where the texts begin."""
_TWO_COLUMNS = 64
"""On a terminal narrower than this, a text stands below its flag instead."""


def help_page(
    command: str, description: str, options: Sequence[Option], *, everything: bool
) -> str:
    """Return the help of a command; rare flags only with `everything`."""
    width = max(_MIN_WIDTH, min(_MAX_WIDTH, shutil.get_terminal_size().columns))
    shown = [option for option in options if everything or not option.rare]
    hidden = len(options) - len(shown)
    blocks = [
        textwrap.fill(_usage(command, options), width, subsequent_indent="  "),
        *(textwrap.fill(part, width) for part in _paragraphs(description)),
        _section("Arguments", [option for option in shown if not option.names], width),
        _section("Options", _own(shown), width, _universal(hidden)),
    ]
    for name in dict.fromkeys(option.section for option in shown if option.section):
        rows = [option for option in shown if option.section == name]
        blocks.append(_section(f"{name.capitalize()} options", rows, width))
    blocks.append(_examples(command, width))
    return "\n\n".join(block for block in blocks if block)


def _usage(command: str, options: Iterable[Option]) -> str:
    arguments = [_left(option) for option in options if not option.names]
    return " ".join(["usage: bit-transformer", command, "[OPTIONS]", *arguments])


def _paragraphs(description: str) -> list[str]:
    whole = inspect.cleandoc(description)
    return [" ".join(part.split()) for part in whole.split("\n\n")]


def _own(options: Iterable[Option]) -> list[Option]:
    return [option for option in options if option.names and not option.section]


def _universal(hidden: int) -> list[tuple[str, str]]:
    rows = [("-h, --help", "Show this page.")]
    if hidden:
        more = "option" if hidden == 1 else "options"
        rows.append(("--help-all", f"Show {hidden} more {more}."))
    return rows


def _section(
    title: str, options: Sequence[Option], width: int, more: Sequence[tuple[str, str]] = ()
) -> str:
    rows = [(_left(option), _right(option)) for option in options] + list(more)
    lines = [line for left, right in rows for line in _row(left, right, width)]
    return "\n".join([f"{title}:", *lines]) if rows else ""


def _left(option: Option) -> str:
    """Return the left column: the flags with their value, or the positional argument."""
    if not option.names:
        return option.metavar if option.required else _in_brackets(option)
    names = ", ".join(option.names)
    if option.on_by_default:
        return f"{names}, --no-{option.names[-1].removeprefix('--')}"
    value = f" [{option.metavar} ...]" if option.many else f" {option.metavar}"
    return names + (value if option.metavar else "")


def _in_brackets(option: Option) -> str:
    if option.metavar.endswith("..."):
        # The command gave the whole usage, such as "[RUN] FILE...".
        return option.metavar
    return f"[{option.metavar}{' ...' if option.many else ''}]"


def _right(option: Option) -> str:
    """Return the right column: the help text, without backquotes, and the default."""
    text = re.sub(r"`([^`]*)`", r"\1", option.text)
    if option.on_by_default:
        return f"{text} (on)"
    return f"{text} (default: {option.default})" if option.default else text


def _row(left: str, right: str, width: int) -> list[str]:
    if width < _TWO_COLUMNS:
        return [*_wrapped(left, width, "  "), *_wrapped(right, width, " " * 6)]
    indent = " " * _COLUMN
    if len(left) > _COLUMN - 4:
        return [*_wrapped(left, width, "  "), *_wrapped(right, width, indent)]
    first = f"  {left}".ljust(_COLUMN)
    return textwrap.wrap(right, width, initial_indent=first, subsequent_indent=indent) or [first]


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _examples(command: str, width: int) -> str:
    lines = []
    for line, purpose in EXAMPLES.get(command, ()):
        # A command line is never wrapped, so that it can be copied.
        lines += [f"  {line}", *_wrapped(purpose, width, " " * 6)]
    return "\n".join(["Examples:", *lines]) if lines else ""
