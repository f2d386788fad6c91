"""Tests of the pages of --help and --help-all, and of the messages about usage errors."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro

from bit_transformer import RunConfig
from bit_transformer.cli import parsing
from bit_transformer.cli.arguments import RARE, Shown, options_of
from bit_transformer.cli.commands import COMMANDS, EXAMPLES, module_of
from bit_transformer.cli.main import main
from bit_transformer.cli.parsing import joined, parse, without_debug
from bit_transformer.errors import ConfigError
from bit_transformer.training.run_folder import RunFolder


@dataclass(frozen=True)
class Section:
    """Settings."""

    common: int = 1
    """A common setting."""
    seldom: float = 0.5
    """A rare setting."""


@dataclass(frozen=True)
class Arguments:
    """Do something with `words`.

    And no more.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """A run."""
    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """More files."""
    text: str | None = None
    """Any text."""
    count: Annotated[int, RARE] = 3
    """A number."""
    size: Literal["small", "large"] = "small"
    """A size."""
    check: bool = True
    """Look again."""
    section: Annotated[Section, Shown("common")] = Section()


def page(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        parse(Arguments, words, command="try")
    assert end.value.code == 0
    return capsys.readouterr().out


def test_a_page_shows_common_flags_and_says_how_many_more_there_are(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert page(capsys, "--help") == (
        "usage: bit-transformer try [OPTIONS] RUN [FILE ...]\n"
        "\n"
        "Do something with `words`.\n"
        "\n"
        "And no more.\n"
        "\n"
        "Arguments:\n"
        "  RUN                     A run.\n"
        "  [FILE ...]              More files.\n"
        "\n"
        "Options:\n"
        "  --text TEXT             Any text.\n"
        "  --size {small,large}    A size. (default: small)\n"
        "  --check, --no-check     Look again. (on)\n"
        "  -h, --help              Show this page.\n"
        "  --help-all              Show 2 more options.\n"
        "\n"
        "Section options:\n"
        "  --common N              A common setting. (default: 1)\n"
    )


def test_a_full_page_shows_every_flag(capsys):
    printed = page(capsys, "--help-all")
    assert "--count N" in printed
    assert "--seldom X" in printed
    assert "more options" not in printed


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_page_fits_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([command, "--help-all"]) == 0
    text, _, examples = capsys.readouterr().out.partition("\nExamples:\n")
    # A single word that cannot be broken may be longer, such as a list of choices.
    assert not [line for line in text.splitlines() if len(line) > columns and " " in line.strip()]
    assert "bit-transformer " in examples


@pytest.mark.parametrize("command", COMMANDS)
def test_no_page_names_a_class_of_ours(command, capsys):
    assert main([command, "--help-all"]) == 0
    printed = capsys.readouterr().out
    assert not re.findall(
        r"\b[A-Z][a-z]+[A-Z]\w*(?:Error|Config)\b|\b[A-Z]\w+(?:Error|Config)\b", printed
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_short_page_has_at_most_twenty_flags(command, capsys):
    assert main([command, "--help"]) == 0
    assert len(re.findall(r"^  -", capsys.readouterr().out, re.MULTILINE)) <= 20


def test_memory_speaks_of_memory(capsys):
    assert main(["memory", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "Estimate the memory" in printed
    assert "compare it with general compressors" not in printed


class _Parsed(BaseException):
    pass


@pytest.mark.parametrize(
    "line", [line for lines in EXAMPLES.values() for line, _ in lines], ids=str
)
def test_every_example_is_understood(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunFolder(tmp_path / "runs" / "first").record_new(RunConfig())
    real = tyro.cli

    def stop(*given: Any, **settings: Any) -> Any:
        arguments = real(*given, **settings)
        if settings.get("return_unknown_args"):
            return arguments
        raise _Parsed

    monkeypatch.setattr(parsing.tyro, "cli", stop)
    command, *words = shlex.split(re.search(r"bit-transformer ([^|)]+)", line)[1])
    with pytest.raises(_Parsed):
        module_of(command).run(words)


def test_every_command_has_one_to_three_examples_of_itself():
    assert list(EXAMPLES) == list(COMMANDS)
    for command, lines in EXAMPLES.items():
        assert 1 <= len(lines) <= 3
        assert all(f"bit-transformer {command}" in line for line, _ in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "try needs RUN; see bit-transformer try --help"),
        (["r", "--txt", "x"], "try has no option --txt; did you mean --text?"),
        (["r", "--zzz"], "try has no option --zzz; bit-transformer try --help-all lists all"),
        (
            ["r", "--size", "lage"],
            "--size must be one of small, large, got 'lage'; did you mean large?",
        ),
        (["r", "--count", "many"], "--count must be a whole number, got 'many'"),
        (["r", "--count", "1.5"], "--count must be a whole number, got '1.5'"),
        (["r", "--seldom", "half"], "--seldom must be a number, got 'half'"),
        (["r", "--count"], "--count needs a value; see bit-transformer try --help"),
        (["r", "--count", "--check"], "--count needs a value; see bit-transformer try --help"),
        (["r", "--check=yes"], "--check takes no value, got '--check=yes'"),
    ],
)
def test_a_usage_error_is_one_line_with_the_way_out(words, message):
    with pytest.raises(ConfigError) as error:
        parse(Arguments, words, command="try")
    assert str(error.value) == message


def test_a_text_may_begin_with_a_dash_and_even_be_a_flag():
    for text in ("-x", "--check", "--debug", "--help", "--", "-1"):
        assert parse(Arguments, ["r", "--text", text], command="try").text == text
    assert parse(Arguments, ["r", "--count", "-1"], command="try").count == -1
    assert parse(Arguments, ["r", "--", "--check"], command="try").files == (Path("--check"),)


def test_debug_as_a_value_is_not_a_flag():
    options = options_of(Arguments)
    assert without_debug(joined(["r", "--debug", "--check"], options)) == ["r", "--check"]
    assert without_debug(joined(["--text", "--debug"], options)) == ["--text=--debug"]
    assert without_debug(["--", "--debug"]) == ["--", "--debug"]


def test_debug_as_the_value_of_another_flag_shows_no_traceback(tmp_path, capsys):
    assert main(["generate", str(tmp_path / "none"), "--prompt", "--debug"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["runs", "--", "--debug"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert "--debug is not a folder" in printed
    assert main(["--debug", "runs", str(tmp_path / "none")]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "meant"), [("trian", "train"), ("compres", "compress")])
def test_a_mistyped_command_is_told_the_likely_one(word, meant, capsys):
    assert main([word]) == 2
    assert capsys.readouterr().err == (
        f"bit-transformer: there is no command {word!r}; did you mean {meant}?\n"
    )


def test_the_version_is_printed(capsys):
    import bit_transformer

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"bit-transformer {bit_transformer.__version__}\n"
