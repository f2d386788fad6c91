"""The command `call` runs every operation from the command line."""

import json

import pytest

from bit_transformer.cli.main import main
from bit_transformer.server.operations import OPERATIONS
from tests.server.conftest import TINY, TOKEN, EndedChild


@pytest.fixture
def call(served, capsys, monkeypatch):
    """Run `call` against the server and return (exit code, stdout, last line of stderr)."""
    monkeypatch.setenv("MCP_SERVER_ADDR", served.url)
    monkeypatch.delenv("BIT_TRANSFORMER_TOKEN", raising=False)

    def run(*words, fields=None):
        given = [] if fields is None else ["--json", json.dumps(fields)]
        code = main(["call", *words, *given, "--runs", str(served.root)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err.strip().split("\n")[-1]

    return run


def test_operations_are_listed_and_described(call):
    _, printed, _ = call()
    assert all(name in printed for name in OPERATIONS)
    _, printed, _ = call("train", "--schema")
    assert json.loads(printed)["fields"] == OPERATIONS["train"].request.model_json_schema()


def test_operations_are_asked(call, served, tmp_path):
    assert json.loads(call("status")[1])["newest_run"] == "one"
    assert json.loads(call("get_run", fields={"run": "one"})[1])["summary"]["step"] == 12
    records = json.loads(call("metrics", fields={"kind": "step", "limit": 2})[1])["records"]
    assert [record["step"] for record in records] == [11, 12]
    upload = tmp_path / "more.txt"
    upload.write_text("to be or not to be\n" * 200)
    train = {"run": "two", "data": {"sources": ["more.txt"]}, "model": TINY}
    code, printed, _ = call("train", "--upload", str(upload), "--wait", fields=train)
    *told, last = map(json.loads, printed.splitlines())
    assert code == 0
    assert [line["kind"] for line in told] == ["begin", "step"]
    assert last["state"] == "done"
    job = json.loads(call("list_jobs", fields={"limit": 1})[1])["jobs"][0]["id"]
    assert json.loads(call("cancel_job", fields={"job": job})[1])["state"] == "done"
    assert json.loads(call("delete_file", fields={"name": "more.txt"})[1])["name"] == "more.txt"


def test_a_generation_is_printed_as_it_comes(call):
    _, printed, _ = call("generate", fields={"prompt": "to be", "new_bytes": 3})
    assert [json.loads(line)["done"] for line in printed.splitlines()] == [8, 16, 24]


def test_refusals_are_one_line(call, served, tmp_path, monkeypatch):
    assert call("fly")[::2] == (
        2,
        f"bit-transformer: there is no operation 'fly'; choose one of {', '.join(OPERATIONS)}",
    )
    code, _, line = call("infer", fields={"run": "none"})
    assert (code, "there is no run 'none'" in line) == (1, True)
    for text, words in (("{", "--json is not valid JSON"), ("[]", "must be an object")):
        assert main(["call", "status", "--json", text]) == 2
        assert words in call("status", "--json", text)[2]
    assert "cannot read" in call("status", "--upload", str(tmp_path / "none"))[2]
    monkeypatch.setenv("BIT_TRANSFORMER_TOKEN", "wrong")
    assert "Authorization: Bearer TOKEN" in call("status")[2]
    monkeypatch.setenv("MCP_SERVER_ADDR", "http://127.0.0.1:1")
    assert "no server answers at http://127.0.0.1:1" in call("status")[2]
    monkeypatch.setenv("MCP_SERVER_ADDR", "file:///etc")
    assert "must begin with http:// or https://" in call("status")[2]


def test_the_token_is_looked_for_in_the_runs_folder(call, served, tmp_path):
    assert (served.root / ".server" / "token").read_text().strip() == TOKEN
    assert main(["call", "status", "--runs", str(tmp_path / "elsewhere")]) == 2


def test_a_failed_job_fails_the_command(call, served, monkeypatch):
    monkeypatch.setattr(served.engine.jobs, "_launch", lambda *_: EndedChild(1))
    code, _, line = call("compress", "--wait", fields={"file": "text", "out": "text.btz"})
    assert (code, "its process ended with exit code 1" in line) == (1, True)
