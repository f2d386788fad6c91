"""Prompts, files, names and output may be any bytes, in any locale."""

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bit_transformer.cli.main import main
from bit_transformer.cli.streams import shown_name
from bit_transformer.lm import BitTransformerLM
from bit_transformer.safety.gate import METADATA_KEY, SafetyGate
from tests.builders import tiny_model

NAME = os.fsdecode(b"caf\xe9\n[bold]")
"""A file name that is not UTF-8, with a line break and text that looks like markup."""
SHOWN = r"caf\xe9\n[bold]"
BARE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
COMMAND = [sys.executable, "-m", "bit_transformer"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return str(tiny_model().save_pretrained(folder))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("data") / NAME
    path.write_bytes(b"to be or not \xff\x00" * 200)
    return str(path)


def _run(*words, **settings):
    environment = os.environ | settings.pop("environment", {})
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, check=False, env=environment, **settings
    )


def _one_line(error: bytes, message: str) -> None:
    (line,) = error.decode().splitlines()
    assert line.startswith("bit-transformer: ")
    assert message in line
    assert "internal error" not in line


@pytest.mark.parametrize("environment", [{}, BARE])
def test_a_prompt_is_the_bytes_that_were_typed(model, environment):
    words = [b"generate", model.encode(), b"--prompt", b"caf\xe9 \xc3\xa9", b"--new-bytes", b"9"]
    ended = _run(*words, environment=environment)
    assert ended.returncode == 0, ended.stderr
    (sample,) = BitTransformerLM.from_pretrained(model).sample(b"caf\xe9 \xc3\xa9", 9)
    assert ended.stdout == b"caf\xe9 \xc3\xa9" + sample.content


def test_a_prompt_comes_from_a_file_or_standard_input(model, tmp_path, monkeypatch, capfdbinary):
    content = b"a\0b\r\n\xff"
    (tmp_path / "-").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    words = ["generate", model, "--new-bytes", "3", "--prompt-file"]
    assert main([*words, "./-"]) == 0
    from_file = capfdbinary.readouterr().out
    assert from_file[: len(content)] == content
    ended = _run(*words, "-", input=content)
    assert ended.stdout == from_file


def test_json_holds_the_bytes_and_why_each_sample_ended(model, capsys):
    words = ["generate", model, "--prompt", os.fsdecode(b"\xe9"), "--new-bytes", "40", "--json"]
    assert main([*words, "--samples", "3"]) == 0
    whole = json.loads(capsys.readouterr().out)
    contents = [base64.b64decode(one) for one in whole["samples_base64"]]
    assert base64.b64decode(whole["prompt_base64"]) == b"\xe9"
    assert whole["ended"] == ["length"] * 3
    assert main(words) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["samples_base64"] == whole["samples_base64"][:1]
    stop = "".join(f"\\x{byte:02x}" for byte in contents[2][11:13])
    assert main([*words, "--samples", "3", "--stop", "never there", "--stop", stop]) == 0
    stopped = json.loads(capsys.readouterr().out)
    assert stopped["ended"][2] == "stop"
    assert (
        base64.b64decode(stopped["samples_base64"][2]) == contents[2].split(contents[2][11:13])[0]
    )


def test_stopped_output_ends_before_the_stop_string(model, capfdbinary):
    words = ["generate", model, "--new-bytes", "40", "--raw"]
    assert main(words) == 0
    whole = capfdbinary.readouterr().out
    stop = "".join(f"\\x{byte:02x}" for byte in whole[20:22])
    assert main([*words, "--stop", stop]) == 0
    assert capfdbinary.readouterr().out == whole[: whole.find(whole[20:22])]
    assert main([*words[:-1], "--watch", "--stop", stop]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == 1 + whole.find(whole[20:22])


def test_a_gate_that_refuses_says_so_in_json(tmp_path, capsys):
    gate = SafetyGate(1.0, 1.0, burn_in=0).to_dict()
    strict = tiny_model().save_pretrained(tmp_path / "strict", **{METADATA_KEY: gate})
    assert main(["generate", str(strict), "--new-bytes", "50", "--gate", "--json"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["ended"] == ["gate"]
    assert document["samples"] == [""]
    assert len(document["reasons"]) == 2
    assert "the gate refused" in printed.err


def test_a_terminal_gets_nothing_that_it_would_obey(model):
    outer, inner = pty.openpty()
    words = ["generate", model, "--prompt", os.fsdecode(b"\x1b[31m\xe9\xc3\xa9\n"), "--new-bytes"]
    ended = subprocess.run([*COMMAND, *words, "200"], stdout=inner, check=False)
    os.close(inner)
    shown = os.read(outer, 65536)
    os.close(outer)
    assert ended.returncode == 0
    assert shown.startswith(rb"\x1b[31m\xe9" + "é\r\n".encode())
    assert all(one.isprintable() or one in "\r\n\t" for one in shown.decode())
    assert shown.endswith(b"\r\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "-1"], "seed must be a whole number from 0 to 9223372036854775807, got -1"),
        (["--seed", str(2**64)], f"got {2**64}"),
        (["--stop", "\\q"], r"there is no escape \q"),
        (["--stop", ""], "a stop string must have 1 to 1024 bytes, got 0"),
        (["--stop", "\\xff", "--valid-utf8"], "valid UTF-8"),
        (["--prompt-file", "none"], "cannot read none: No such file or directory"),
        (["--prompt-file", "."], "cannot read .: Is a directory"),
        (["--watch", "--json"], "leave out --gate, --json and --raw"),
    ],
)
def test_mistakes_are_told_in_one_line(flags, message, model, capsys):
    assert main(["generate", model, *flags]) in (1, 2)
    _one_line(capsys.readouterr().err.encode(), message)


@pytest.mark.parametrize(
    "flags", [["--temperature", "1e9"], ["--temperature=-1"], ["--top-k", "0"]]
)
def test_sampling_settings_have_the_limits_of_the_library(flags, model, capsys):
    try:
        code = main(["generate", model, *flags])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert "must be" in capsys.readouterr().err


def test_weights_that_are_not_numbers_give_an_error_and_no_bytes(tmp_path, capfdbinary):
    broken = tiny_model()
    with torch.no_grad():
        broken.network.head.nodes.fill_(torch.nan)
    folder = str(broken.save_pretrained(tmp_path / "broken"))
    for flags in ([], ["--top-k", "3"], ["--temperature", "0"], ["--samples", "2", "--json"]):
        assert main(["generate", folder, *flags]) == 1
        printed = capfdbinary.readouterr()
        assert printed.out == b""
        _one_line(printed.err, "the model's weights are damaged: load a good checkpoint")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_full_output_is_told_in_one_line(model):
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*COMMAND, "generate", model, "--new-bytes", "9"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ended.returncode == 1
    _one_line(ended.stderr, "cannot write to standard output: No space left on device")


@pytest.mark.parametrize(
    "words", [["generate", "MODEL", "--prompt-file", "-"], ["score", "MODEL", "-"]]
)
def test_closed_standard_input_is_told_in_one_line(words, model):
    words = [model if word == "MODEL" else word for word in words]
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, *words]
    ended = subprocess.run(shell, capture_output=True, check=False)
    assert ended.returncode == 1
    _one_line(ended.stderr, "standard input is closed")


@pytest.mark.parametrize(
    "words",
    [
        ["score", "MODEL", "DATA"],
        ["score", "MODEL", "DATA", "--json"],
        ["score", "MODEL", "DATA", "--html", "OUT"],
        ["telemetry", "MODEL", "DATA", "--limit", "400", "--out", "OUT"],
        ["gate", "MODEL", "DATA"],
        ["eval", "MODEL", "DATA", "--against", "xz", "--limit", "500"],
    ],
)
def test_names_that_are_not_text_are_read_and_printed(words, model, data, tmp_path):
    given = {"MODEL": model, "DATA": data, "OUT": str(tmp_path / f"{NAME}.png")}
    words = [os.fsencode(given.get(word, word)) for word in words]
    if words[0] == b"eval":
        words[2] = os.fsencode(str(Path(data).parent))
    for environment in ({}, BARE):
        ended = _run(*words, environment=environment)
        assert ended.returncode == 0, ended.stderr
        assert b"\xe9" not in ended.stdout
        if words[0] == b"score":
            shown = SHOWN if b"--json" not in words else json.dumps(SHOWN).strip('"')
            assert shown.encode() in ended.stdout


@pytest.mark.parametrize("command", ["score", "telemetry", "gate"])
def test_errors_name_a_file_in_one_line(command, model, data, capsys):
    assert main([command, model, data + "none"]) == 1
    _one_line(capsys.readouterr().err.encode(), SHOWN + "none: No such file or directory")


@pytest.mark.parametrize("flags", [[], ["--html", "page"]])
def test_an_empty_file_is_named(flags, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(NAME).touch()
    assert main(["score", model, NAME, *flags]) == 1
    _one_line(capsys.readouterr().err.encode(), f"{SHOWN} is empty; there is nothing to score")
    assert not Path("page").exists()


def test_a_file_may_be_called_minus(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("-").write_bytes(b"abc")
    assert main(["score", model, "./-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 3


def test_what_was_held_back_is_shown_without_control_characters(tmp_path, monkeypatch, capfdbinary):
    from bit_transformer.bits.codec import bytes_to_bits
    from bit_transformer.safety.review import ReviewItem, ReviewQueue

    content = b"\x1b]0;title\x07[/x] :smile: \xe9 and more\n"
    queue = ReviewQueue(tmp_path / NAME)
    item = ReviewItem(bytes_to_bits(b"\x1b[1m"), bytes_to_bits(content), ("C is low",))
    identity = queue.put(item)
    words = ["--queue", str(tmp_path / NAME)]
    monkeypatch.setenv("COLUMNS", "200")
    for action in (["list"], ["show", identity]):
        assert main(["review", *action, *words]) == 0
        printed = capfdbinary.readouterr().out.decode()
        assert r"\x1b]0;title\x07[/x] :smile: \xe9 and more" in printed
        assert all(one.isprintable() or one == "\n" for one in printed)
    assert main(["review", "approve", identity, *words]) == 0
    assert capfdbinary.readouterr().out == content


def test_names_are_shown_in_one_harmless_line():
    assert shown_name(NAME) == SHOWN
    assert shown_name("ünïcode ü") == "ünïcode ü"
    assert shown_name("a\u202eb\x1b") == r"a\u202eb\x1b"
