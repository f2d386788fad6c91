"""Uploads and downloads with a fake hub."""

import json
import os
import shutil
import sys
import types
from pathlib import Path

import pytest

from bit_transformer.errors import CheckpointNotFoundError, ConflictError, MissingExtraError
from bit_transformer.server.jobs.log import JobLog
from bit_transformer.server.jobs.work import Stopped, Work
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.operations.perform import perform
from bit_transformer.server.training_request import RunSettings
from tests.server.conftest import TINY

TOKEN = "hf_a_secret_that_nobody_may_see"


class FakeHub(types.ModuleType):
    """Records the arguments of each call."""

    def __init__(self, folder: Path) -> None:
        super().__init__("bit_transformer.hub")
        self.folder, self.calls = folder, []

    def push(self, source, repo_id, *, token, training, private, progress):
        self.calls.append((repo_id, token, training, private))
        shutil.copytree(source, self.folder / repo_id)
        progress(5, 10, "model.safetensors")
        return types.SimpleNamespace(url=f"https://hub/{repo_id}", files=2, bytes=10)

    def pull(self, repo_id, out, *, token, training, progress):
        self.calls.append((repo_id, token, training))
        progress(10, 10, "model.safetensors")
        shutil.copytree(self.folder / repo_id, out)
        return out


@pytest.fixture
def hub(tmp_path, monkeypatch):
    found = FakeHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "bit_transformer.hub", found)
    return found


def _do(engine, name, fields):
    operation = OPERATIONS[name]
    prepared = operation.prepare(engine, operation.request.model_validate(fields))
    stored = json.loads(json.dumps(prepared.request.model_dump(mode="json")))
    assert TOKEN not in json.dumps(stored)
    path = engine.workspace.root / "told.jsonl"
    work = Work(engine.workspace, JobLog(path), prepared.secrets)
    try:
        return operation.run(work, operation.stored_request(stored)), path.read_text()
    finally:
        work.log.close()


def test_a_run_goes_up_and_comes_down_under_another_name(engine, hub):
    sent = {"run": "one", "repo": "me/model", "token": TOKEN, "private": False}
    pushed, told = _do(engine, "push", sent)
    assert (pushed.url, pushed.bytes) == ("https://hub/me/model", 10)
    assert json.loads(told.splitlines()[0])["total"] == 10
    pulled, _ = _do(engine, "pull", {"run": "two", "repo": "me/model"})
    assert pulled.run == "two"
    assert engine.workspace.run("two").config() == engine.workspace.run("one").config()
    _do(engine, "save_checkpoint", {"run": "one", "repo": "me/other"})
    _do(engine, "download_checkpoint", {"run": "three", "repo": "me/other"})
    assert hub.calls == [
        ("me/model", TOKEN, True, False),
        ("me/model", None, True),
        ("me/other", None, False, True),
        ("me/other", None, False),
    ]


def test_the_token_is_kept_in_memory_alone(engine):
    request = {"run": "one", "repo": "me/model", "token": TOKEN}
    operation = OPERATIONS["push"]
    job = perform(engine, operation, operation.request.model_validate(request))
    engine.jobs.close()
    for folder, _, files in os.walk(engine.workspace.root):
        for file in files:
            assert TOKEN.encode() not in (Path(folder) / file).read_bytes()
    assert TOKEN not in job.model_dump_json()
    assert TOKEN not in repr(operation.request.model_validate(request))


def test_what_cannot_be_done_is_refused_before_there_is_a_job(engine, hub):
    with pytest.raises(ConflictError, match="'one' is taken"):
        _do(engine, "pull", {"run": "one", "repo": "me/model"})
    perform(engine, OPERATIONS["init"], RunSettings(run="new", model=TINY))
    with pytest.raises(CheckpointNotFoundError, match="has no checkpoint yet"):
        _do(engine, "push", {"run": "new", "repo": "me/model"})


def test_a_transfer_ends_when_it_should(engine, hub):
    (hub.folder / "me" / "model").mkdir(parents=True)
    request = OPERATIONS["pull"].request.model_validate({"run": "two", "repo": "me/model"})
    work = Work(engine.workspace, JobLog(engine.workspace.root / "told.jsonl"))
    work.stop.set()
    with pytest.raises(Stopped):
        OPERATIONS["pull"].run(work, request)
    work.log.close()


def test_without_its_library_the_extra_is_named(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "bit_transformer.hub", None)
    with pytest.raises(MissingExtraError, match=r"install 'bit-transformer\[hub\]"):
        _do(engine, "push", {"run": "one", "repo": "me/model"})
