"""Tests of `push`, `pull`, and every command that takes RUN, with a hub id as RUN."""

import json
import re

import pytest

from bit_transformer.cli.main import main
from tests.hub.fake_hub import GOOD_TOKEN


def test_push_and_pull_print_what_they_did(hub, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["push", str(run), "user/net", "--training", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert pushed["url"].startswith(f"{hub.url}/user/net/commit/")
    assert main(["pull", "user/net", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["folder"], report["step"], report["resumable"]) == ("runs/net", 4, True)
    assert main(["pull", "user/net", "--weights-only", "--out", "light"]) == 0
    assert "user/net is in light" in capsys.readouterr().out
    assert main(["train", "--out", "runs/net", "--resume", "--steps", "6", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 6
    assert main(["push", "light", "user/other"]) == 0
    assert "files" in capsys.readouterr().out
    assert hub.tree("user/other")["run/config.json"] == hub.tree("user/net")["run/config.json"]


def test_a_terminal_shows_the_progress_of_a_transfer(hub, run, tmp_path, capsys, monkeypatch):
    assert main(["push", str(run), "user/net"]) == 0
    assert capsys.readouterr().err == "", "nobody watches"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["pull", "user/net", "--out", str(tmp_path / "out")]) == 0
    assert re.search(r"download .*\d [kM]B/s", capsys.readouterr().err)


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "user/net", "--new-bytes", "8"],
        ["score", "user/net", "CORPUS"],
        ["eval", "user/net", "CORPUS", "--limit", "2000", "--against", "gzip"],
        ["eval", "user/net", "--limit", "2000", "--against", "gzip"],
        ["gate", "user/net", "--limit", "8"],
        ["gate", "user/net", "CORPUS", "--limit", "8"],
        ["telemetry", "user/net"],
        ["telemetry", "user/net", "CORPUS", "--limit", "256"],
        ["quantize", "user/net", "--out", "small"],
    ],
)
def test_a_hub_id_stands_for_a_run(hub, run, corpus, tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert main(["push", str(run), "user/net"]) == 0
    capsys.readouterr()
    words = [str(corpus) if word == "CORPUS" else word for word in words]
    assert main([*words, "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert not (tmp_path / "user").exists(), "nothing is written where a hub id points"


def test_an_error_is_one_line_and_an_exit_code(hub, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, code, told in (
        (["push", str(run), "net"], 2, "a repository is called user/name"),
        (["push", str(run), "user/net", "--hf-token", "hf_wrong"], 1, "refused the token (401)"),
        (["push", str(tmp_path / "none"), "user/net"], 1, "does not exist"),
        (["pull", "user/none"], 1, "has no repository user/none"),
        (["generate", "user/none"], 1, "there is no folder user/none here"),
    ):
        capsys.readouterr()
        assert main(words) == code
        error = capsys.readouterr().err
        assert told in error
        assert len(error.splitlines()) == 1
        assert "hf_wrong" not in error


def test_debug_shows_no_token_either(hub, run, capsys):
    secret = "hf_wrong_but_secret"
    assert main(["push", str(run), "user/net", "--hf-token", secret, "--debug"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert secret not in shown
    assert GOOD_TOKEN not in shown
