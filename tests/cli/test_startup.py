"""A command loads as few libraries as its answer needs."""

import json
import subprocess
import sys

import pytest

from bit_transformer.cli.commands import COMMANDS
from scripts.make_completion import current_table, written

LIBRARIES = ["jaxtyping", "numba", "numpy", "pydantic", "rich", "torch"]


def loaded_by(*words: str, code: int = 0) -> set[str]:
    """Return the large libraries that a process has loaded when its command ends."""
    script = (
        "import json, sys\n"
        "from bit_transformer.cli.main import main\n"
        f"code = main({list(words)!r})\n"
        f"print(json.dumps([code, [m for m in {LIBRARIES} if m in sys.modules]]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    ended_with, modules = json.loads(ended.stdout.splitlines()[-1])
    assert ended_with == code, ended.stderr
    return set(modules)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["completion", "bash"]])
def test_help_version_and_completion_load_no_library(words):
    assert loaded_by(*words) == set()


def test_a_mistyped_command_loads_no_library():
    assert loaded_by("trian", code=2) == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_neither_torch_nor_numba(command):
    assert not loaded_by(command, "--help") & {"torch", "numba", "rich"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_flag_loads_neither_torch_nor_numba(command):
    assert not loaded_by(command, "--no-such-flag", code=2) & {"torch", "numba", "rich"}


def test_compressing_without_a_model_loads_no_torch(tmp_path):
    file, coded = tmp_path / "note", tmp_path / "note.btz"
    file.write_bytes(b"to be or not to be, " * 50)
    heavy = {"torch", "pydantic"}
    assert not loaded_by("compress", str(file)) & heavy
    file.unlink()
    assert not loaded_by("decompress", str(coded)) & heavy
    assert file.read_bytes() == b"to be or not to be, " * 50
    assert not loaded_by("decompress", "--list", str(coded)) & (heavy | {"numba"})


def test_the_completion_table_is_current():
    from bit_transformer.cli.completion import TABLE

    # If this fails, run python -m scripts.make_completion.
    assert TABLE.read_text(encoding="utf-8") == written(current_table())


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["sc"], ["score"]),
        (["train", "--pres"], ["--preset"]),
        (["train", "--preset", "sm"], ["small"]),
        (["completion", "--h"], ["--help", "--help-all"]),
        (["score", "note"], []),
    ],
)
def test_bash_completes_commands_flags_and_choices(words, completed):
    script = subprocess.run(
        [sys.executable, "-m", "bit_transformer", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    asked = f"COMP_WORDS=(bit-transformer {' '.join(words)}); COMP_CWORD={len(words)}"
    asked += '; _bit_transformer; echo "${COMPREPLY[@]}"'
    ended = subprocess.run(
        ["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_is_told_every_command_and_flag(shell, capsys):
    from bit_transformer.cli.completion import table
    from bit_transformer.cli.main import main

    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    for command, flags in table().items():
        assert command in printed
        spelled = [flag.lstrip("-") if shell == "fish" else flag for flag in flags]
        assert not [flag for flag in spelled if flag not in printed]
