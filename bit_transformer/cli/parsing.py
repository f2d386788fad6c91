"""Turns a command's words into its arguments; a usage error becomes one line."""

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

import tyro

from bit_transformer.cli.arguments import UNIVERSAL, Option, options_of
from bit_transformer.cli.commands import DESCRIPTIONS
from bit_transformer.cli.help_page import help_page
from bit_transformer.errors import ConfigError

Arguments = TypeVar("Arguments")

_EXPECTED = {"N": "a whole number", "X": "a number"}


def parse(
    kind: type[Arguments],
    words: Sequence[str],
    *,
    command: str,
    default: Arguments | None = None,
) -> Arguments:
    """Return the arguments that the words of a command stand for.

    Prints the help and raises `SystemExit` if the words ask for it. Raises `ConfigError` for a
    usage error.
    """
    options = options_of(kind, default)
    words = without_debug(joined(words, options))
    if asked := [word for word in _flags(words) if word in ("-h", "--help", "--help-all")]:
        about = DESCRIPTIONS.get(command) or kind.__doc__ or ""
        print(help_page(command, about, options, everything="--help-all" in asked))
        raise SystemExit(0)
    _check_switches(words, options)
    with _config_errors(command, options):
        arguments: Arguments = tyro.cli(
            kind,
            args=words,
            add_help=False,
            config=(tyro.conf.OmitArgPrefixes,),
            **_settings(default),
        )
    return arguments


def parse_known(kind: type[Arguments], words: Sequence[str], *, command: str) -> Arguments:
    """Return the arguments that this class knows, and leave all other words to a later `parse`."""
    options = options_of(kind)
    with _config_errors(command, options):
        arguments, _ = tyro.cli(
            kind, args=joined(words, options), add_help=False, return_unknown_args=True
        )
    return arguments


def joined(words: Sequence[str], options: Sequence[Option]) -> list[str]:
    """Return the words, with each value that begins with a dash joined to its flag by "=".

    A text may be anything, even the name of a flag. Other values cannot be the name of a flag.
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
    """Return the words without --debug, which `main` reads. After -- it is not a flag."""
    end = words.index("--") if "--" in words else len(words)
    return [word for at, word in enumerate(words) if at > end or word != "--debug"]


def _check_switches(words: Sequence[str], options: Sequence[Option]) -> None:
    """Raise `ConfigError` for a switch with a value.

    tyro takes the x of --json=x for the next positional argument.
    """
    switches = {name for option in options if not option.metavar for name in option.names}
    for word in _flags(words):
        name, equals, _ = word.partition("=")
        if equals and _dashed(name) in switches:
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


def _config_errors(command: str, options: Sequence[Option]) -> AbstractContextManager[None]:
    """Context in which a usage error raises `ConfigError`.

    The hook is private to tyro. If a later version drops it, tyro prints its own page instead.
    """
    try:
        from tyro._errors import ParseErrorEvent, on_parse_error
    except ImportError:
        return nullcontext()

    def fail(event: ParseErrorEvent) -> NoReturn:
        raise ConfigError(_problem(event, command, options)) from None

    return on_parse_error(fail)


def _problem(event: Any, command: str, options: Sequence[Option]) -> str:
    """Return one line about a usage error that tyro found."""
    match type(event).__name__:
        case "UnrecognizedArgs":
            return _unknown(event.tokens, command, options)
        case "MissingArgs":
            names = [_name(missing.arg, options) for missing in event.missing_arguments]
            return f"{command} needs {' and '.join(names)}{_see(command)}"
        case "InvalidChoice":
            choices = list(event.choices)
            if "None" in choices:
                # An optional choice, whose choices come without an order. Nobody types None.
                choices = sorted({*choices} - {"None"})
            name, allowed = _name(event.argument, options), ", ".join(choices)
            near = suggestion(event.value, choices)
            return f"{name} must be one of {allowed}, got {event.value!r}{near}"
        case "BadValue":
            return f"{_name(event.argument, options)} needs a value{_see(command)}"
        case "InstantiationFailure":
            return _bad_value(event, options)
        case other:
            return f"{command} does not understand these words ({other}){_see(command)}"


def _bad_value(event: Any, options: Sequence[Option]) -> str:
    """Return the setting's own message, or one about a word that is not a number."""
    message = str(event.message)
    if event.argument is None:
        return message
    name = _name(event.argument, options)
    kinds = {option.metavar for option in options if name in option.names}
    # tyro quotes the words that it could not read, and Python's own messages end in the word.
    quoted = re.search(r"\['(.*)'\]|: '(.*)'$", message)
    expected = next((_EXPECTED[kind] for kind in kinds if kind in _EXPECTED), None)
    if quoted is None or expected is None:
        return f"{name}: {message}"
    return f"{name} must be {expected}, got {quoted[1] or quoted[2] or ''!r}"


def _unknown(tokens: Sequence[str], command: str, options: Sequence[Option]) -> str:
    flag = next((token for token in tokens if token.startswith("-")), None)
    if flag is None:
        return f"{command} does not take the word {tokens[0]!r}{_see(command)}"
    names = [name for option in options for name in option.names]
    near = suggestion(flag.partition("=")[0], [*names, *UNIVERSAL])
    see = near or f"; bit-transformer {command} --help-all lists all"
    return f"{command} has no option {flag}{see}"


def _name(argument: Any, options: Sequence[Option]) -> str:
    """Return the flag or the placeholder that the help shows."""
    if argument.is_positional():
        field = argument.field.intern_name
        return next((one.metavar for one in options if one.field == field), field.upper())
    return str(argument.lowered.name_or_flags[-1])


def _see(command: str) -> str:
    return f"; see bit-transformer {command} --help"


def suggestion(word: str, names: Sequence[str]) -> str:
    """Return `; did you mean ...?` with the most similar name; empty if none is similar."""
    near = get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""
