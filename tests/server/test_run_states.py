"""A run is listed once it is requested, has one writer, and can be followed, whoever trains it."""

import http.client
import json
import signal
import subprocess
import threading
from contextlib import contextmanager

import pytest

from bit_transformer.checkpoint.lock import sole_writer, writer_of
from bit_transformer.server.settings import Limits
from bit_transformer.server.training_request import RunSettings
from bit_transformer.training.config import SECTIONS
from tests.server.conftest import TINY, TOKEN, EndedChild, command, serving, wait_for

_TRAIN = {"run": "two", "data": {"sources": ["text"]}, "model": TINY, "train": {"steps": 7}}


@pytest.fixture
def slow(runs):
    """Run a server whose jobs never start."""
    with serving(runs, Limits(), lambda *_: EndedChild(None)) as served:
        yield served


def _line(served, name):
    found = [run for run in served.ask("GET", "/runs")[2]["runs"] if run["name"] == name]
    return found[0] if found else None


def test_a_run_is_known_from_the_moment_it_is_asked_for(slow):
    assert slow.ask("GET", "/runs/two")[0] == 404
    job = slow.ask("POST", "/train", _TRAIN)[2]["id"]
    status, _, run = slow.ask("GET", "/runs/two")
    assert status == 200
    summary = run["summary"]
    assert (summary["state"], summary["job"], summary["steps"]) == ("starting", job, 7)
    assert run["settings"]["data"]["sources"] == ["text"]
    assert _line(slow, "two") == summary
    assert slow.ask("GET", "/metrics?run=two")[2] == {"run": "two", "records": []}
    assert slow.ask("GET", "/model_config?run=two")[2]["model"]["d_model"] == TINY["d_model"]
    assert slow.ask("POST", "/checkpoint", {"run": "two"})[2]["step"] == 0
    for path, body in (("/infer", {}), ("/score", {"text": "x"}), ("/quantize", {"out": "x"})):
        status, _, problem = slow.ask("POST", path, {"run": "two", **body})
        assert (status, problem["owner"]) == (409, job)
    slow.ask("POST", f"/jobs/{job}/cancel")
    assert slow.ask("GET", "/runs/two")[0] == 404
    assert _line(slow, "two") is None


def test_the_second_job_for_one_run_is_refused_when_it_is_asked_for(slow):
    job = slow.ask("POST", "/train", _TRAIN)[2]["id"]
    for path, body in [
        ("/train", _TRAIN),
        ("/train", {"run": "two", "resume": True}),
        ("/init", {"run": "two"}),
        ("/step", {"run": "two"}),
        ("/pull", {"run": "two", "repo": "a/b"}),
        ("/quantize", {"run": "one", "out": "two"}),
    ]:
        status, _, problem = slow.ask("POST", path, body)
        assert (status, problem["owner"]) == (409, job), path
        assert job in problem["detail"]
    for name in ("two/", "./two", "a/../two", "two\0"):
        assert slow.ask("POST", "/train", _TRAIN | {"run": name})[0] == 422


def test_the_second_job_for_one_file_is_refused_when_it_is_asked_for(slow):
    body = {"file": "text", "out": "text.btz"}
    job = slow.ask("POST", "/compress", body)[2]["id"]
    for path, other in [
        ("/compress", body),
        ("/decompress", body),
        ("/files", {"name": "text.btz", "text": "x"}),
    ]:
        status, _, problem = slow.ask("POST", path, other)
        assert (status, problem["owner"]) == (409, job), path
        assert f"job {job} (compress, " in problem["detail"]
        assert "is making the file 'text.btz'" in problem["detail"]
    assert slow.ask("PUT", "/files/text.btz", b"x")[0] == 409
    assert slow.ask("POST", "/compress", body | {"out": "other.btz"})[0] == 202
    slow.ask("POST", f"/jobs/{job}/cancel")
    assert slow.ask("POST", "/compress", body)[0] == 202


def test_names_that_differ_in_case_are_one_where_the_disk_takes_them_for_one(slow, monkeypatch):
    slow.ask("POST", "/train", _TRAIN)
    assert not slow.engine.workspace.ignores_case
    monkeypatch.setitem(vars(slow.engine.workspace), "ignores_case", True)
    assert slow.ask("POST", "/train", _TRAIN | {"run": "TWO"})[0] == 409


def test_a_link_is_no_second_name_of_a_run(slow):
    (slow.root / "link").symlink_to(slow.root / "one")
    assert slow.ask("GET", "/runs/link")[0] == 404
    assert slow.ask("POST", "/train", {"run": "link", "resume": True})[0] == 404


@contextmanager
def _events(served, path):
    """Open an address, and yield an iterator over its events, each as (lines, data)."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=150)
    connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()

    def parts():
        lines = []
        for raw in answer:
            line = raw.decode().rstrip("\n")
            if line:
                lines.append(line)
            elif lines:
                data = next((one[6:] for one in lines if one.startswith("data: ")), "null")
                yield lines, json.loads(data)
                lines = []

    try:
        yield parts()
    finally:
        answer.close()
        connection.close()


@pytest.fixture
def command_line(runs):
    """Return a function that starts trainings on the command line, in the server's runs folder."""
    started = []

    def start(name, steps):
        model = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
        words = ["train", str(runs / ".server" / "files" / "text"), "--out", str(runs / name)]
        words += [*model, "--steps", str(steps), "--batch-size", "2", "--evaluate-every", "1000"]
        with (runs.parent / "train.log").open("wb") as log:
            process = subprocess.Popen(command(*words), stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_training_of_the_command_line_is_followed_live(slow, command_line):
    process = command_line("cli", 100_000)
    wait_for(lambda: _line(slow, "cli") is not None)
    assert _line(slow, "cli")["state"] in ("starting", "training")
    assert slow.ask("GET", "/runs/cli")[0] == 200
    wait_for(lambda: _line(slow, "cli")["step"] >= 2)
    line = _line(slow, "cli")
    assert (line["state"], line["job"]) == ("training", None)
    assert line["writer"].startswith(f"process {process.pid} on ")
    for path, body in (("/train", {"resume": True}), ("/step", {}), ("/train", {})):
        status, _, problem = slow.ask("POST", path, {"run": "cli", **body})
        assert status == 409, problem
        assert f"is being written by process {process.pid}" in problem["detail"]
    with _events(slow, "/runs/cli/events") as events:
        steps = (data["step"] for _, data in events if data and data["kind"] == "step")
        first = [next(steps) for _ in range(5)]
        assert first == sorted(set(first))
        process.send_signal(signal.SIGKILL)
        process.wait()
        *_, (lines, last) = events
    assert "event: end" in lines
    assert (last["state"], last["writer"]) == ("interrupted", None)
    assert _line(slow, "cli")["state"] == "interrupted"


def test_states_of_runs_that_nobody_writes(slow):
    slow.ask("POST", "/init", {"run": "new", "model": TINY})
    assert (_line(slow, "new")["state"], _line(slow, "one")["state"]) == ("untrained", "ended")
    (slow.root / "one" / "report.json").unlink()
    assert _line(slow, "one")["state"] == "interrupted"
    with _events(slow, "/runs/one/events") as events:
        numbers = [lines[0] for lines, _ in events]
    assert numbers[:2] == ["id: 1", "id: 2"]
    assert numbers[-1] == "event: end"
    assert slow.ask("GET", "/runs/none/events")[0] == 404


def test_a_run_that_goes_back_is_told_from_its_beginning(slow):
    metrics = slow.root / "one" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    done = threading.Event()

    def write():
        with sole_writer(slow.root / "one"):
            done.wait(60)

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: writer_of(slow.root / "one") is not None)
    with _events(slow, "/runs/one/events") as events:
        for _ in lines:
            next(events)
        new = metrics.with_name("new")
        new.write_text("".join(lines[:1]))
        new.replace(metrics)
        assert next(events)[1] == {"kind": "restart"}
        assert next(events) == (["id: 1", f"data: {lines[0].strip()}"], json.loads(lines[0]))
        done.set()
        assert "event: end" in next(events)[0]
    writer.join()
    assert writer_of(slow.root / "one") is None


def test_a_lock_that_a_killed_process_left_holds_nothing(tmp_path):
    assert writer_of(tmp_path) is None
    (tmp_path / ".lock").write_text('{"process": 1}')
    assert writer_of(tmp_path) is None
    with sole_writer(tmp_path):
        found = writer_of(tmp_path)
        assert found is not None
        assert "is being written by process" in str(found)


def test_a_request_has_the_sections_of_a_run():
    sections = [name for name in RunSettings.model_fields if name not in ("run", "preset")]
    assert sections == list(SECTIONS)
    former = {"train": {"steps": 3, "patience": 2}, "regularizers": {"lambda_c": 0.5}}
    made = RunSettings.model_validate(former)
    assert (made.evaluation.patience, made.objective.lambda_c) == (2, 0.5)
