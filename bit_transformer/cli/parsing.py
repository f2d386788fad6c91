"""From a command's words to its arguments; what cannot be meant becomes one line."""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

import tyro

from bit_transformer.cli.arguments import UNIVERSAL, Option, options_of
from bit_transformer.cli.examples import DESCRIPTIONS
from bit_transformer.cli.help_page import help_page
from bit_transformer.errors import ConfigError

Arguments = TypeVar("Arguments")

_WANTED = {"N": "a whole number", "X": "a number"}


def parse(
    kind: type[Arguments],
    words: Sequence[str],
    *,
    command: str,
    default: Arguments | None = None,
) -> Arguments:
    """The command's arguments from its words.

    Prints the help and raises `SystemExit` where that is asked for; raises `ConfigError` for a
    usage error.
    """
    options = options_of(kind, default)
    words = without_debug(joined(words, options))
    if asked := [word for word in _flags(words) if word in ("-h", "--help", "--help-all")]:
        about = DESCRIPTIONS.get(command) or kind.__doc__ or ""
        print(help_page(command, about, options, everything="--help-all" in asked))
        raise SystemExit(0)
    _check_switches(words, options)
    with _refusing(command, options):
        arguments: Arguments = tyro.cli(
            kind,
            args=words,
            add_help=False,
            config=(tyro.conf.OmitArgPrefixes,),
            **_settings(default),
        )
    return arguments


def parse_known(kind: type[Arguments], words: Sequence[str], *, command: str) -> Arguments:
    """Those arguments that this class knows; all other words are left to a later `parse`."""
    options = options_of(kind)
    with _refusing(command, options):
        arguments, _ = tyro.cli(
            kind, args=joined(words, options), add_help=False, return_unknown_args=True
        )
    return arguments


def joined(words: Sequence[str], options: Sequence[Option]) -> list[str]:
    """The words, a value that begins with a dash joined to its flag.

    A text may be anything, even the name of a flag; other values are never one.
    """
    takes = {name: option for option in options if option.takes_one for name in option.names}
    known = {*UNIVERSAL, *(name for option in options for name in option.names)}
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        option = takes.get(_dashed(word))
        if word == "--":
            return [*found, word, *rest]
        if option is None:
            found.append(word)
            continue
        value = next(rest, None)
        if value is None:
            found.append(word)
        elif option.is_text or (value.startswith("-") and _dashed(value) not in known):
            found.append(f"{word}={value}")
        else:
            found += [word, value]
    return found


def without_debug(words: Sequence[str]) -> list[str]:
    """The words without the flag --debug, which `main` reads; behind -- it is no flag."""
    end = words.index("--") if "--" in words else len(words)
    return [word for at, word in enumerate(words) if at > end or word != "--debug"]


def _check_switches(words: Sequence[str], options: Sequence[Option]) -> None:
    """tyro takes what stands behind a switch, as in --json=x, for the next argument."""
    switches = {name for one in options if not one.metavar for name in one.names}
    for word in _flags(words):
        name, joint, _ = word.partition("=")
        if joint and _dashed(name) in switches:
            raise ConfigError(f"{name} takes no value, got {word!r}")


def _flags(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "--":
            return
        if word.startswith("-"):
            yield word


def _dashed(word: str) -> str:
    return word.replace("_", "-") if word.startswith("--") else word


def _settings(default: object) -> dict[str, Any]:
    return {} if default is None else {"default": default}


def _refusing(command: str, options: Sequence[Option]) -> AbstractContextManager[None]:
    """Where it lasts, a usage error is a `ConfigError`; tyro's own page where its hook is gone."""
    try:
        from tyro._errors import ParseErrorEvent, on_parse_error
    except ImportError:
        return nullcontext()

    def refuse(event: ParseErrorEvent) -> NoReturn:
        raise ConfigError(_problem(event, command, options)) from None

    return on_parse_error(refuse)


def _problem(event: Any, command: str, options: Sequence[Option]) -> str:
    """One line for what tyro found wrong."""
    match type(event).__name__:
        case "UnrecognizedArgs":
            return _unknown(event.tokens, command, options)
        case "MissingArgs":
            names = [_name(one.arg, options) for one in event.missing_arguments]
            return f"{command} needs {' and '.join(names)}{_see(command)}"
        case "InvalidChoice":
            name, allowed = _name(event.argument, options), ", ".join(event.choices)
            near = suggestion(event.value, event.choices)
            return f"{name} must be one of {allowed}, got {event.value!r}{near}"
        case "BadValue":
            return f"{_name(event.argument, options)} needs a value{_see(command)}"
        case "InstantiationFailure":
            return _bad_value(event, options)
        case other:
            return f"{command} cannot be called so ({other}){_see(command)}"


def _bad_value(event: Any, options: Sequence[Option]) -> str:
    """A setting's own sentence, or one about a word that is no number."""
    message = str(event.message)
    if event.argument is None:
        return message
    name = _name(event.argument, options)
    kinds = {one.metavar for one in options if name in one.names}
    # tyro quotes the words it could not read; Python's own sentences end in the word.
    quoted = re.search(r"\['(.*)'\]|: '(.*)'$", message)
    wanted = next((_WANTED[kind] for kind in kinds if kind in _WANTED), None)
    if quoted is None or wanted is None:
        return f"{name}: {message}"
    return f"{name} must be {wanted}, got {quoted[1] or quoted[2] or ''!r}"


def _unknown(tokens: Sequence[str], command: str, options: Sequence[Option]) -> str:
    flag = next((token for token in tokens if token.startswith("-")), None)
    if flag is None:
        return f"{command} does not take the word {tokens[0]!r}{_see(command)}"
    names = [name for option in options for name in option.names]
    near = suggestion(flag.partition("=")[0], [*names, *UNIVERSAL])
    see = near or f"; bit-transformer {command} --help-all lists all"
    return f"{command} has no option {flag}{see}"


def _name(argument: Any, options: Sequence[Option]) -> str:
    """The flag or the placeholder that the help shows."""
    if argument.is_positional():
        field = argument.field.intern_name
        return next((one.metavar for one in options if one.field == field), field.upper())
    return str(argument.lowered.name_or_flags[-1])


def _see(command: str) -> str:
    return f"; see bit-transformer {command} --help"


def suggestion(word: str, names: Sequence[str]) -> str:
    """`; did you mean ...?` for the name that was probably meant; empty where none is near."""
    near = get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""
