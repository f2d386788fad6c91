"""The options of a command, read from its dataclass: one list for help, completion and errors.

tyro parses the words. `help_page` renders this list instead of tyro's own page, because tyro cannot
hide rare flags and its boxes do not fit a narrow terminal.
"""

import ast
import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import tyro

RARE = "rare"
"""Marks a field, as in `Annotated[int, RARE]`, that only --help-all shows."""

UNIVERSAL = ("-h", "--help", "--help-all", "--debug")
"""Flags that every command takes."""

_METAVARS: dict[object, str] = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


class Shown:
    """Marks a section of settings, as in `Annotated[ModelConfig, Shown("d_model")]`.

    --help shows the named fields of the section, and --help-all shows the others too. All fields of
    an unmarked section are rare.
    """

    def __init__(self, *names: str) -> None:
        self.names = names


@dataclass(frozen=True)
class Option:
    """One flag with its aliases, or one positional argument."""

    field: str
    """Name of the dataclass field."""
    names: tuple[str, ...]
    """The flags; empty for a positional argument."""
    metavar: str
    """Placeholder for the value; empty for a switch."""
    many: bool
    """Whether it takes any number of values."""
    choices: tuple[str, ...]
    """The allowed values; empty if they are not limited to a few."""
    default: str
    """The default as text; empty if there is none to show."""
    required: bool
    on_by_default: bool
    """Whether it is a switch that is on, so that the user types --no-..."""
    is_path: bool
    is_text: bool
    text: str
    """Help text."""
    section: str
    """Section of settings; empty for the command's own options."""
    rare: bool

    @property
    def takes_one(self) -> bool:
        """Whether the next word is its value."""
        return bool(self.names and self.metavar and not self.many)


def options_of(kind: type, default: object = None) -> list[Option]:
    """Return everything that a command with these arguments takes, in the order of the fields."""
    return list(_walk(kind, default, section="", shown=None))


def _walk(
    kind: type, default: object, *, section: str, shown: tuple[str, ...] | None
) -> Iterator[Option]:
    texts = _attribute_texts(kind)
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        inner, marks = _unwrap(hints[field.name])
        value = _default(field) if default is None else getattr(default, field.name)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            names = next((mark.names for mark in marks if isinstance(mark, Shown)), shown or ())
            yield from _walk(inner, value, section=field.name.replace("_", " "), shown=names)
        else:
            rare = RARE in marks if shown is None else field.name not in shown
            option = _option(field.name, inner, marks, value)
            text = texts.get(field.name, option.text)
            yield dataclasses.replace(option, text=text, section=section, rare=rare)


def _default(field: "dataclasses.Field[Any]") -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _option(name: str, inner: object, marks: Sequence[object], value: object) -> Option:
    settings: list[Any] = [mark for mark in marks if isinstance(mark, type(tyro.conf.arg()))]
    flag = _setting(settings, "name", name).replace("_", "-")
    metavar = _setting(settings, "metavar", "")
    aliases = [alias for setting in settings for alias in setting.aliases or ()]
    positional = tyro.conf.Positional in marks
    element, many = _element(inner)
    choices = tuple(str(choice) for choice in get_args(element)) if _is_literal(element) else ()
    switch = element is bool or tyro.conf.UseCounterAction in marks
    kind = _METAVARS.get(element, "VALUE") if not choices else "{" + ",".join(choices) + "}"
    if positional:
        kind = flag.removesuffix("s" if many else "").upper()
    required = value is dataclasses.MISSING
    return Option(
        field=name,
        names=() if positional else (*aliases, f"--{flag}"),
        metavar="" if switch else metavar or kind,
        many=many and tyro.conf.UseAppendAction not in marks,
        choices=choices,
        default="" if required or switch else _shown_default(value),
        required=required,
        on_by_default=switch and value is True,
        is_path=element is Path,
        is_text=element is str and not many,
        text=_setting(settings, "help", ""),
        section="",
        rare=False,
    )


def _setting(settings: Sequence[Any], name: str, default: str) -> str:
    """Return what the first `tyro.conf.arg` that sets `name` sets it to."""
    return next((value for one in settings if (value := getattr(one, name))), default)


def _element(inner: object) -> tuple[object, bool]:
    """Return the type of one value, and whether there may be any number of values."""
    if get_origin(inner) in (Union, types.UnionType):
        inner = next(part for part in get_args(inner) if part is not type(None))
    if get_origin(inner) in (tuple, list):
        return get_args(inner)[0], True
    return inner, False


def _is_literal(kind: object) -> bool:
    return get_origin(kind) is Literal


def _unwrap(hint: Any) -> tuple[object, tuple[object, ...]]:
    if get_origin(hint) is typing.Annotated:
        inner, *marks = get_args(hint)
        return inner, tuple(marks)
    return hint, ()


def _shown_default(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value)


def _attribute_texts(kind: type) -> dict[str, str]:
    """Return the string below each field, for a class and its bases; empty without source code."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(base))).body
        except (OSError, TypeError):
            continue
        assert isinstance(tree, ast.ClassDef)
        for statement, below in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                texts[statement.target.id] = " ".join(str(below.value.value).split())
    return texts
