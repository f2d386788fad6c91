"""The page that --help and --help-all print: plain text that fits the terminal's width."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence

from bit_transformer.cli.arguments import Option
from bit_transformer.cli.examples import EXAMPLES

_WIDEST, _NARROWEST = 100, 30
_COLUMN = 26
"""Where the texts begin; on a narrow terminal they stand below the flags."""
_NARROW = 64


def help_page(
    command: str, description: str, options: Sequence[Option], *, everything: bool
) -> str:
    """What a command does and takes; rare flags only where everything is asked for."""
    width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size().columns))
    shown = [one for one in options if everything or not one.rare]
    hidden = len(options) - len(shown)
    blocks = [
        textwrap.fill(_usage(command, options), width, subsequent_indent="  "),
        *(textwrap.fill(part, width) for part in _paragraphs(description)),
        _section("Arguments", [one for one in shown if not one.names], width),
        _section("Options", _own(shown), width, _universal(hidden)),
    ]
    for name in dict.fromkeys(one.section for one in shown if one.section):
        rows = [one for one in shown if one.section == name]
        blocks.append(_section(f"{name.capitalize()} options", rows, width))
    blocks.append(_examples(command, width))
    return "\n\n".join(block for block in blocks if block)


def _usage(command: str, options: Iterable[Option]) -> str:
    arguments = [_spelled(one) for one in options if not one.names]
    return " ".join(["usage: bit-transformer", command, "[OPTIONS]", *arguments])


def _paragraphs(description: str) -> list[str]:
    whole = inspect.cleandoc(description)
    return [" ".join(part.split()) for part in whole.split("\n\n")]


def _own(options: Iterable[Option]) -> list[Option]:
    return [one for one in options if one.names and not one.section]


def _universal(hidden: int) -> list[tuple[str, str]]:
    rows = [("-h, --help", "Show this page.")]
    if hidden:
        more = "option" if hidden == 1 else "options"
        rows.append(("--help-all", f"Show {hidden} more {more}."))
    return rows


def _section(
    title: str, options: Sequence[Option], width: int, more: Sequence[tuple[str, str]] = ()
) -> str:
    rows = [(_spelled(one), _explained(one)) for one in options] + list(more)
    lines = [line for left, right in rows for line in _row(left, right, width)]
    return "\n".join([f"{title}:", *lines]) if rows else ""


def _spelled(option: Option) -> str:
    if not option.names:
        return option.metavar if option.required else _in_brackets(option)
    names = ", ".join(option.names)
    if option.on:
        return f"{names}, --no-{option.names[-1].removeprefix('--')}"
    value = f" [{option.metavar} ...]" if option.many else f" {option.metavar}"
    return names + (value if option.metavar else "")


def _in_brackets(option: Option) -> str:
    return f"[{option.metavar}{' ...' if option.many else ''}]"


def _explained(option: Option) -> str:
    text = re.sub(r"`([^`]*)`", r"\1", option.text)
    if option.on:
        return f"{text} (on)"
    return f"{text} (default: {option.default})" if option.default else text


def _row(left: str, right: str, width: int) -> list[str]:
    if width < _NARROW:
        begin = "      "
        return [*_wrapped(left, width, "  "), *_wrapped(right, width, begin)]
    below = " " * _COLUMN
    if len(left) > _COLUMN - 4:
        return [*_wrapped(left, width, "  "), *_wrapped(right, width, below)]
    first = f"  {left}".ljust(_COLUMN)
    return textwrap.wrap(right, width, initial_indent=first, subsequent_indent=below) or [first]


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _examples(command: str, width: int) -> str:
    lines = []
    for line, purpose in EXAMPLES.get(command, ()):
        # A command line is not broken: it is there to be copied.
        lines += [f"  {line}", *_wrapped(purpose, width, "      ")]
    return "\n".join(["Examples:", *lines]) if lines else ""
