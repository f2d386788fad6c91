"""Jobs in processes of their own train, stop, get killed, and are found by the next server."""

import dataclasses
import io
import json
import os
import shutil
import signal
import sys
from contextlib import closing

import pytest

from bit_transformer.checkpoint.format import load_checkpoint
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.errors import ConflictError
from bit_transformer.server import worker
from bit_transformer.server.jobs.folder import JobFolder, JobState
from bit_transformer.server.jobs.log import JobLog
from bit_transformer.server.jobs.work import Stopped, Work
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.operations.callbacks import JobCallback
from bit_transformer.server.operations.perform import perform
from bit_transformer.server.settings import Limits
from bit_transformer.server.training_request import RunSettings
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.fit import train_run
from tests.server.conftest import TINY, serving, wait_for

ENDLESS = {"steps": 1_000_000, "batch_size": 2, "evaluate_bytes": 256, "device": "cpu"}
ENDLESS |= {"checkpoint_every": 20, "evaluate_every": 0, "schedule": "constant"}
NEW = {"run": "two", "data": {"sources": ["text"]}, "model": TINY}


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def _work_here(engine, monkeypatch, name, fields):
    """Run a job in this process and return its state and its records."""
    operation = OPERATIONS[name]
    prepared = operation.prepare(engine, operation.request.model_validate(fields))
    job = JobFolder(engine.workspace.jobs / "20260101T000000000000-abcdef")
    request = prepared.request.model_dump(mode="json")
    job.create(JobState(job.path.name, name, prepared.writes, "queued", 0.0), request)
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(prepared.secrets).encode()))
    )
    monkeypatch.setattr(os, "nice", lambda by: by)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    worker.main(engine.workspace.root, job.path)
    for number, handler in before.items():
        signal.signal(number, handler)
    return job.state(), [json.loads(line) for line in job.metrics.read_text().splitlines()]


def test_a_training_tells_what_it_does_and_every_setting_reaches_it(engine, monkeypatch):
    body = NEW | {
        "train": {"steps": 8, "batch_size": 2},
        "evaluation": {"evaluate_every": 4, "telemetry_every": 2},
        "optimizer": {"optimizer": "adamw", "lr": 0.001},
        "objective": {"lambda_k": 0.25, "floor_s": 0.625},
        "model": TINY | {"use_act": True, "act_threshold": 0.75, "chunk_size": 256},
    }
    state, told = _work_here(engine, monkeypatch, "train", body)
    assert (state.state, state.error) == ("done", None)
    assert state.result["steps"] == 8
    config = json.loads((engine.workspace.root / "two" / "config.json").read_text())
    for section in ("train", "evaluation", "optimizer", "objective", "model"):
        assert config[section].items() >= body[section].items()
    kinds = [line["kind"] for line in told]
    assert {"begin", "step", "evaluation", "sample", "telemetry", "checkpoint"} <= set(kinds)
    assert [line["step"] for line in told if line["kind"] == "step"] == list(range(1, 9))
    assert "loss" in told[kinds.index("step")]


def test_a_run_goes_on_with_its_settings_and_those_that_are_given(engine, monkeypatch):
    fields = {"run": "one", "resume": True, "train": {"steps": 14, "telemetry_every": 1}}
    state, _ = _work_here(engine, monkeypatch, "train", fields)
    assert state.result["steps"] == 14
    config = json.loads((engine.workspace.root / "one" / "config.json").read_text())
    assert (config["train"]["batch_size"], config["evaluation"]["telemetry_every"]) == (4, 1)


def test_steps_are_done_in_portions_of_the_plan(engine, monkeypatch):
    perform(engine, OPERATIONS["init"], RunSettings(**NEW, train={"steps": 3, "batch_size": 2}))
    step = {"run": "two", "steps": 2}
    assert _work_here(engine, monkeypatch, "step", step)[0].result["steps"] == 2
    shutil.rmtree(next(engine.workspace.jobs.iterdir()))
    assert _work_here(engine, monkeypatch, "step", step)[0].result["steps"] == 3
    with pytest.raises(ConflictError, match="has done all of its 3 planned steps"):
        _work_here(engine, monkeypatch, "step", step)


class _Impatient(Callback):
    """Cancels twice in step 2, and again after the checkpoint."""

    def __init__(self, work):
        self._work = work

    def on_gradients(self, trainer, loss, norm):
        if trainer.progress.step == 1:
            self._work._stop()
            self._work._stop()

    def on_checkpoint(self, trainer, path):
        self._work._stop()


def test_who_cancels_again_is_spared_the_evaluation_but_not_the_checkpoint(engine, tmp_path):
    config = RunSettings(**NEW, train={"steps": 9, "batch_size": 2}).resolved(engine.workspace)
    run = engine.workspace.new_run("two").path
    with closing(JobLog(tmp_path / "told.jsonl")) as told:
        work = Work(engine.workspace, told)
        beside = [_Impatient(work), JobCallback(work, None), _Impatient(work)]
        with pytest.raises(Stopped):
            train_run(config, run, progress=False, callbacks=beside)
    assert load_checkpoint(locate_checkpoint(run)).metadata["step"] == 2
    assert "evaluation" not in (tmp_path / "told.jsonl").read_text()


def test_a_job_that_cannot_be_done_says_why(engine, monkeypatch, capsys):
    fields = NEW | {"train": {"device": "cuda:7"}}
    state, _ = _work_here(engine, monkeypatch, "train", fields)
    assert state.state == "failed"
    assert "no GPU is usable" in state.error
    assert "Traceback" in capsys.readouterr().err


def test_a_job_that_somebody_else_does_is_left_alone(engine, monkeypatch):
    monkeypatch.setattr(worker, "_PATIENCE", 0.0)
    job = JobFolder(engine.workspace.jobs / "20260101T000000000000-abcdef")

    job.create(JobState(job.path.name, "train", "two", "queued", 0.0), {})
    with job.locked() as mine:
        assert mine
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        assert worker.main(engine.workspace.root, job.path) == 0
    assert job.state().state == "queued"
    job.write(dataclasses.replace(job.state(), state="cancelled"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert worker.main(engine.workspace.root, job.path) == 0
    assert job.state().state == "cancelled"


def test_a_training_saves_when_asked_and_ends_saved_when_cancelled(working):
    train = ENDLESS | {"checkpoint_every": 10**6}
    _, _, job = working.ask("POST", "/train", NEW | {"train": train})
    working.reached(job["id"], 3)
    status, _, problem = working.ask("POST", "/train", NEW | {"resume": True})
    assert (status, problem["owner"]) == (409, job["id"])
    saved = working.ask("POST", "/checkpoint", {"run": "two"})[2]
    assert saved["requested"]
    wait_for(lambda: bool(working.ask("GET", "/runs/two")[2]["checkpoints"]))
    working.ask("POST", f"/jobs/{job['id']}/cancel")
    ended = working.ended(job["id"])
    assert (ended["state"], ended["cancel_requested"]) == ("cancelled", True)
    steps = ended["result"]["steps"]
    checkpoint = load_checkpoint(locate_checkpoint(working.root / "two"), training=True)
    assert checkpoint.metadata["step"] == steps
    assert checkpoint.training_state["progress"]["step"] == steps
    assert not working.ask("POST", "/checkpoint", {"run": "two"})[2]["requested"]


def test_a_job_outlives_its_server_and_a_killed_one_shows_its_last_words(runs):
    with serving(runs, Limits()) as first:
        _, _, job = first.ask("POST", "/train", NEW | {"train": ENDLESS})
        first.reached(job["id"], 1)
    with serving(runs, Limits()) as second:
        (found,) = second.ask("GET", "/jobs?state=running")[2]["jobs"]
        assert found["id"] == job["id"]
        second.reached(job["id"], int(found["progress"]["done"]) + 3)
        second.engine.jobs.job(job["id"]).log.write_text("the last words\n")
        os.kill(second.engine.jobs.state(job["id"]).pid, signal.SIGKILL)
        failed = second.ended(job["id"])
        assert failed["state"] == "failed"
        assert failed["error"] == "its process is gone before the job was done"
        assert failed["log"] == ["the last words"]
