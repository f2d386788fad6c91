"""Tests of the operations over HTTP."""

import base64
import errno
import json

import pytest

from bit_transformer.errors import ConflictError
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.workspace import claim
from tests.server.conftest import TEXT, TINY


def test_every_operation_stands_in_the_openapi_document(served):
    status, _, document = served.ask("GET", "/openapi.json")
    assert status == 200
    found = {
        one["operationId"]: (method.upper(), path, one)
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    }
    for operation in OPERATIONS.values():
        method, path, one = found[operation.name]
        assert (method, path) == (operation.method, operation.path)
        assert one["summary"]
        assert {"400", "401", "403", "422", "429"} <= one["responses"].keys()
    documented = document["components"]["schemas"]["TrainConfig"]["properties"]["steps"]
    assert documented["description"] == "Optimizer steps."


def test_the_documented_addresses_answer(served):
    for path in ("/status", "/metrics", "/model_config", "/health", "/runs", "/jobs", "/files"):
        status, _, document = served.ask("GET", path)
        assert status == 200, document
    assert served.ask("POST", "/exec", {"command": "true"})[0] == 404


def test_the_newest_run_is_meant_where_none_is_named(served):
    assert served.ask("GET", "/model_config")[2]["run"] == "one"
    assert served.ask("GET", "/metrics?kind=step&limit=3")[2]["records"][-1]["step"] == 12
    assert served.ask("GET", "/status")[2]["newest_run"] == "one"


def test_a_run_is_made_shown_and_listed(served):
    status, _, made = served.ask("POST", "/init", {"run": "two", "model": TINY})
    assert status == 200
    assert made["summary"] | {"created": 0} == {
        "name": "two",
        "step": 0,
        "steps": 600,
        "bits_per_byte": None,
        "ended": False,
        "problem": None,
        "state": "untrained",
        "job": None,
        "writer": None,
        "created": 0,
    }
    assert made["settings"]["model"]["d_model"] == 16
    assert [run["name"] for run in served.ask("GET", "/runs")[2]["runs"]] == ["one", "two"]
    shown = served.ask("GET", "/runs/one")[2]
    assert shown["settings"]["data"]["sources"] == ["text"]
    assert shown["checkpoints"][-1]["step"] == 12
    assert served.ask("POST", "/init", {"run": "two"})[0] == 409


def test_an_untrained_run_answers_as_its_training_would_begin(served):
    served.ask("POST", "/init", {"run": "two", "model": TINY})
    _, _, scored = served.ask("POST", "/score", {"run": "two", "text": "to be"})
    assert scored["bits_per_byte"] == 8.0


def test_a_prompt_is_continued_and_the_seed_decides(served):
    body = {"run": "one", "prompt": "to be", "new_bytes": 24, "seed": 3}
    status, _, first = served.ask("POST", "/infer", body)
    assert status == 200
    assert (first["new_bytes"], first["step"], first["passed"]) == (24, 12, None)
    assert served.ask("POST", "/infer", body)[2]["base64"] == first["base64"]
    assert served.ask("POST", "/infer", body | {"seed": 4})[2]["base64"] != first["base64"]


def test_a_generation_streams_what_is_known_of_each_byte(served):
    body = {"prompt": "to be", "new_bytes": 5, "alternatives": 2}
    status, headers, content = served.ask("POST", "/generate", body)
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    *events, last = content.decode().strip().split("\n\n")
    assert last == "event: end\ndata: {}"
    parts = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [part["done"] for part in parts] == [8, 16, 24, 32, 40]
    for part in parts:
        assert part["value"] == int(part["bits"], 2)
        assert sum(part["bit_surprisals"]) == pytest.approx(part["surprisal"], rel=1e-3)
        assert set(part["readings"]) == {"k", "c", "s", "t", "u"}
        assert len(part["alternatives"]) == 2
    _, _, inferred = served.ask("POST", "/infer", {"prompt": "to be", "new_bytes": 5})
    assert base64.b64decode(inferred["base64"]) == bytes(part["value"] for part in parts)


def test_what_cannot_be_streamed_is_refused_before_the_first_event(served):
    status, headers, problem = served.ask("POST", "/generate", {"run": "none"})
    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert "there is no run 'none'" in problem["detail"]


def test_a_long_sequence_is_read_in_windows(served):
    body = {"text": TEXT[:400].decode(), "ctx_bits": 256}
    status, _, found = served.ask("POST", "/infer_long", body)
    assert status == 200
    assert found["bits"] == 3200
    assert len(found["windows"]) == 24
    assert found["right"] > 0.5
    status, _, problem = served.ask("POST", "/infer_long", {"file": "text", "ctx_bits": 8})
    assert status == 413
    assert "at most 1,024 windows" in problem["detail"]


def test_the_inside_of_a_pass_is_shown(served):
    status, _, found = served.ask("POST", "/look", {"text": "to be", "layer": 0})
    assert status == 200
    assert [len(one) for one in found["bit_surprisals"]] == [8] * 5
    assert len(found["attention"]) == 2
    assert all(abs(sum(row) - 1) < 1e-3 for head in found["attention"] for row in head)
    assert served.ask("POST", "/look", {"text": "to be", "layer": 2})[0] == 422


def test_files_go_up_and_down(served):
    assert served.ask("PUT", "/files/a.bin", b"\0\1\2")[0] == 201
    assert served.ask("PUT", "/files/a.bin", b"other")[0] == 409
    status, headers, content = served.ask("GET", "/files/a.bin")
    assert (status, content) == (200, b"\0\1\2")
    assert headers["content-disposition"] == 'attachment; filename="a.bin"'
    body = {"name": "b.txt", "text": "é"}
    assert served.ask("POST", "/files", body)[2]["bytes"] == 2
    names = [file["name"] for file in served.ask("GET", "/files")[2]["files"]]
    assert names == ["a.bin", "b.txt", "text"]
    assert served.ask("DELETE", "/files/a.bin")[0] == 200
    assert served.ask("GET", "/files/a.bin")[0] == 404


def test_a_job_is_followed_from_any_line(served):
    body = {"run": "two", "data": {"sources": ["text"]}, "model": TINY}
    status, _, job = served.ask("POST", "/train", body)
    assert (status, job["run"]) == (202, "two")
    assert job["state"] in ("queued", "done"), "its process may be quicker than the answer"
    done = served.ended(job["id"])
    assert done["progress"] == {"done": 1.0, "total": 1.0, "unit": "steps", "seconds_left": None}
    path = f"/jobs/{job['id']}/events"
    whole = served.ask("GET", path)[2].decode().strip().split("\n\n")
    assert [event.split("\n")[0] for event in whole] == ["id: 1", "id: 2", "event: end"]
    assert json.loads(whole[-1].split("data: ")[1])["state"] == "done"
    rest = served.ask("GET", path, headers={"Last-Event-ID": "1"})[2].decode()
    assert rest.strip().split("\n\n") == whole[1:]
    newest = served.ask("GET", f"{path}?newest=1")[2].decode()
    assert newest.strip().split("\n\n") == whole[1:]
    assert served.ask("GET", path, headers={"Last-Event-ID": "x"})[0] == 422


def test_every_error_is_a_problem_document(served):
    asked = {
        404: ("GET", "/nowhere", None),
        405: ("DELETE", "/status", None),
        422: ("POST", "/infer", {"new_bytes": 0}),
        400: ("POST", "/infer", b"{"),
        409: ("POST", "/init", {"run": "one"}),
    }
    for code, (method, path, body) in asked.items():
        kind = {"Content-Type": "application/json"}
        status, headers, problem = served.ask(method, path, body, kind)
        assert (status, problem["status"]) == (code, code)
        assert headers["content-type"] == "application/problem+json"
        assert {"type", "title", "detail"} <= problem.keys()
        assert "Traceback" not in json.dumps(problem)
    assert served.ask("DELETE", "/status")[1]["allow"] == "GET"


def test_a_value_outside_its_bounds_names_the_bound(served):
    cases = [
        ("/infer", {"new_bytes": 10**9}, "new_bytes: Input should be less than or equal to 4096"),
        ("/train", {"train": {"steps": 0}}, "train: steps must be at least 1, got 0"),
        ("/train", {"model": {"nhead": 3}}, "d_model must be divisible by nhead, got 128 and 3"),
        ("/train", {"model": {"width": 3}}, "model.width: Unexpected keyword argument"),
        ("/train", {"model": {"d_model": 65536, "num_layers": 99}}, "at most 4,294,967,296 bytes"),
        ("/train", {"train": {"batch_size": 10**9}}, "PiB of memory and there are"),
        ("/train", {"train": {"batch_size": 8, "memory_budget": "1MB"}}, "one window at a time"),
        ("/score", {}, "give exactly one of text, base64 and file"),
        ("/infer", {"sampling": {"top_p": 3}}, "top_p: Input should be less than or equal to 1"),
    ]
    for path, body, words in cases:
        status, _, problem = served.ask("POST", path, body)
        assert status == 422
        assert words in problem["detail"]


def test_an_internal_error_says_nothing_of_its_inside(served, monkeypatch, caplog):
    monkeypatch.setattr(served.engine.workspace.__class__, "runs", lambda self: 1 / 0)
    status, _, problem = served.ask("GET", "/runs")
    assert status == 500
    assert problem["detail"] == "an internal error occurred; the log of the server describes it"


def test_a_full_disk_is_told_and_leaves_nothing(served, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bit_transformer.atomic.os.fsync", full)
    for path, body in (("/files", {"name": "a", "text": "x"}), ("/init", {"run": "two"})):
        status, _, problem = served.ask("POST", path, body)
        assert (status, problem["type"]) == (507, "urn:bit-transformer:problem:storage")
        assert "No space left on device; free some space" in problem["detail"]
    assert [file["name"] for file in served.ask("GET", "/files")[2]["files"]] == ["text"]
    assert [run["name"] for run in served.ask("GET", "/runs")[2]["runs"]] == ["one"]


def test_two_uploads_of_one_name_do_not_mix(tmp_path):
    partial, target = tmp_path / "partial", tmp_path / "target"
    partial.write_text("mine")
    target.write_text("theirs")
    with pytest.raises(ConflictError, match="another request has made the file"):
        claim(partial, target)
    assert target.read_text() == "theirs"
    target.unlink()
    claim(partial, target)
    assert target.read_text() == "mine"


def test_damaged_runs_and_odd_files_are_no_fault_of_the_server(served):
    (served.engine.workspace.files / "my file.txt").write_text("x")
    (served.engine.workspace.files / "folder").mkdir()
    assert [file["name"] for file in served.ask("GET", "/files")[2]["files"]] == ["text"]
    for name, settings, records in (
        ("a", "{", ""),
        ("b", "{}", '{"kind": 3}\n{"kind": "step", "step": "x"}\n[1]\n'),
        ("c", '{"model": {"width": 3}}', ""),
    ):
        run = served.root / name
        run.mkdir()
        (run / "config.json").write_text(settings)
        (run / "metrics.jsonl").write_text(records)
    runs = {run["name"]: run for run in served.ask("GET", "/runs")[2]["runs"]}
    assert runs.keys() == {"one", "a", "b", "c"}
    assert "config.json is not valid JSON" in runs["a"]["problem"]
    assert "records cannot be read" in runs["b"]["problem"]
    assert "width" in runs["c"]["problem"]
    for name, status in (("a", 422), ("b", 200), ("c", 422)):
        assert served.ask("GET", f"/runs/{name}")[0] == status
        assert served.ask("GET", f"/model_config?run={name}")[0] == status
        assert served.ask("GET", f"/metrics?run={name}")[0] == 200
        assert served.ask("POST", "/infer", {"run": name, "new_bytes": 1})[0] == status
