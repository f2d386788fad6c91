"""A run that continues on another machine equals an uninterrupted one. Hub errors never stop it."""

import json
import threading

import pytest
import torch

import bit_transformer.training.callback_list
from bit_transformer.checkpoint.format import load_checkpoint
from bit_transformer.cli.main import main
from bit_transformer.errors import HubAccessError, HubUnreachableError, StorageError, UsageError
from bit_transformer.hub import HubMirror, push
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.fit import train_run
from bit_transformer.training.run_folder import RunFolder, read_metrics
from tests.hub.conftest import TINY
from tests.hub.fake_hub import GOOD_TOKEN

SHORT = [*TINY, "--steps", "8", "--checkpoint-every", "2", "--telemetry-every", "0"]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Make no plots, because they take longer than these runs."""
    monkeypatch.setattr(bit_transformer.training.callback_list, "can_plot", lambda: False)


class _CrashAfter(Callback):
    def __init__(self, step):
        self._step = step

    def on_step_end(self, trainer, record):
        if record.step == self._step:
            raise RuntimeError("power cut")


@pytest.fixture
def uploads_waited_for(monkeypatch):
    """Make training wait for each upload, so that no checkpoint is skipped."""
    on_checkpoint = HubMirror.on_checkpoint

    def and_wait(self, trainer, path):
        on_checkpoint(self, trainer, path)
        self.on_close(trainer)

    monkeypatch.setattr(HubMirror, "on_checkpoint", and_wait)


def _losses(folder):
    return [r["loss"] for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "step"]


def _weights(folder):
    return load_checkpoint(RunFolder(folder).checkpoints.latest()).weights


@pytest.mark.usefixtures("uploads_waited_for")
def test_a_run_continues_on_another_machine_step_for_step(hub, corpus, tmp_path, capsys):
    words = ["train", str(corpus), *SHORT]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert main([*words, "--out", str(tmp_path / "one"), "--hf-repo", "user/run"]) == 0
    # Keep the commits of a machine that died in its sixth step.
    commits = hub.repositories["user/run"].commits
    steps = [json.loads(tree["manifest.json"])["metadata"]["step"] for tree in commits[1:]]
    assert steps == [2, 4, 6, 8, 8, 8], "the last three: the step, its held-out result, the report"
    del commits[1 + steps.index(4) + 1 :]
    assert main([*words, "--out", str(tmp_path / "two"), "--hf-repo", "user/run"]) == 0
    told = capsys.readouterr().err
    assert "user/run is at step 4: continuing from there" in told
    assert "warning" not in told
    assert _losses(tmp_path / "two") == _losses(tmp_path / "whole")
    here, there = _weights(tmp_path / "two"), _weights(tmp_path / "whole")
    assert all(torch.equal(here[name], there[name]) for name in there)
    assert hub.sent["training.safetensors"] > 0, "it began where the hub was"
    report = json.loads(hub.tree("user/run")["run/report.json"])
    assert report["steps"] == 8
    assert "brotli" in hub.tree("user/run")["README.md"].decode()


def test_a_run_resumes_from_the_upload_before_a_crash(hub, corpus, tmp_path):
    words = ["train", str(corpus), *SHORT, "--out", str(tmp_path / "whole")]
    assert main(words) == 0
    config = RunFolder(tmp_path / "whole").config()
    mirror = HubMirror(tmp_path / "one", "user/run", report=pytest.fail)
    assert not mirror.prepare()
    with pytest.raises(RuntimeError, match="power cut"):
        train_run(config, tmp_path / "one", progress=False, callbacks=[mirror, _CrashAfter(5)])
    assert not list((tmp_path / "one").glob(".upload-*")), "frozen copies are removed"
    told = []
    again = HubMirror(tmp_path / "two", "user/run", report=told.append)
    assert again.prepare()
    train_run(config, tmp_path / "two", resume=True, progress=False, callbacks=[again])
    assert _losses(tmp_path / "two") == _losses(tmp_path / "whole")
    assert told == ["user/run is at step 4: continuing from there"]


@pytest.mark.parametrize("trouble", ["/commit/", "/lfs/"])
def test_a_failing_hub_causes_a_warning_and_training_goes_on(
    hub, corpus, tmp_path, capsys, trouble
):
    words = ["train", str(corpus), *SHORT, "--out", str(tmp_path / "run")]
    hub.failures = [(trouble, 500, 10**6)]
    assert main([*words, "--hf-repo", "user/run", "--hf-token", GOOD_TOKEN]) == 0
    told = capsys.readouterr().err
    assert "warning: not uploaded to user/run" in told
    assert f"bit-transformer push {tmp_path / 'run'} user/run --training" in told
    assert GOOD_TOKEN not in told
    assert len(_losses(tmp_path / "run")) == 8


def test_training_continues_during_an_upload_and_the_newest_checkpoint_is_next(
    corpus, tmp_path, monkeypatch
):
    begun, go_on, uploaded, kept = threading.Event(), threading.Event(), [], []

    def slow_push(source, *_, **__):
        uploaded.append(RunFolder(source).checkpoints.steps())
        begun.set()
        assert go_on.wait(60)

    class UploadForTheWholeRun(Callback):
        def on_step_end(self, trainer, record):
            if record.step == 3:
                assert begun.wait(60)

        def on_close(self, trainer):
            kept.extend((tmp_path / "one").glob(".upload-*"))
            go_on.set()

    assert main(["train", str(corpus), *SHORT, "--out", str(tmp_path / "whole")]) == 0
    config = RunFolder(tmp_path / "whole").config()
    monkeypatch.setattr("bit_transformer.hub.mirror.push", slow_push)
    mirror = HubMirror(tmp_path / "one", "user/run", report=pytest.fail)
    callbacks = [UploadForTheWholeRun(), mirror]
    train_run(config, tmp_path / "one", progress=False, callbacks=callbacks)
    assert uploaded == [[2], [8]]
    assert len(kept) == 2, "a skipped checkpoint takes no space"
    assert not list((tmp_path / "one").glob(".upload-*"))


def test_a_full_disk_causes_a_warning(hub, tmp_path, monkeypatch):
    def full(*_, **__):
        raise StorageError("cannot write: no space left")

    monkeypatch.setattr("bit_transformer.hub.mirror.stage_checkpoint", full)
    told = []
    HubMirror(tmp_path, "user/run", report=told.append)._freeze(tmp_path / "step-1")
    assert told == ["warning: the checkpoint step-1 is not uploaded: cannot write: no space left"]
    assert not list(tmp_path.glob(".upload-*"))
    assert hub.requests == []


def test_no_run_starts_while_the_hub_does_not_answer(away, corpus, tmp_path, capsys):
    mirror = HubMirror(tmp_path / "run", "user/run", token=GOOD_TOKEN)
    with pytest.raises(HubUnreachableError):
        mirror.prepare()
    words = ["train", str(corpus), *SHORT, "--out", str(tmp_path / "run")]
    assert main([*words, "--hf-repo", "user/run", "--hf-token", GOOD_TOKEN]) == 1
    assert "does not answer" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_behind_the_hub_does_not_replace_it(hub, corpus, tmp_path, capsys):
    words = ["train", str(corpus), *SHORT, "--hf-repo", "user/run", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    folder = RunFolder(tmp_path / "run").checkpoints
    folder.drop_after(6)
    (tmp_path / "run" / ".upload-left").mkdir()
    assert main([*words, "--resume"]) == 2
    assert "user/run is at step 8" in capsys.readouterr().err
    assert main([*words, "--resume", "--hf-repo", "user/fresh"]) == 0
    assert json.loads(hub.tree("user/fresh")["manifest.json"])["metadata"]["step"] == 8
    assert not (tmp_path / "run" / ".upload-left").exists()


def test_a_finished_model_is_not_replaced_by_a_new_run(hub, folder, tmp_path):
    push(folder, "user/net")
    with pytest.raises(UsageError, match="a run would replace it; name another repository"):
        HubMirror(tmp_path / "run", "user/net").prepare()


def test_a_refused_token_is_reported_before_the_first_step(hub, corpus, tmp_path, monkeypatch):
    with pytest.raises(HubAccessError):
        HubMirror(tmp_path / "run", "user/run", token="hf_wrong").prepare()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubAccessError, match="HF_TOKEN"):
        HubMirror(tmp_path / "run", "user/run").prepare()


def test_a_token_without_a_repository_is_refused(corpus, tmp_path, capsys):
    words = ["train", str(corpus), *SHORT, "--out", str(tmp_path / "run"), "--hf-token", "hf_x"]
    assert main(words) == 2
    assert "--hf-token needs --hf-repo" in capsys.readouterr().err


def test_the_token_is_written_into_no_file_of_the_run(hub, corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    words = ["train", str(corpus), *SHORT, "--out", str(tmp_path / "run")]
    assert main([*words, "--hf-repo", "user/run", "--hf-token", GOOD_TOKEN]) == 0
    assert GOOD_TOKEN not in "".join(capsys.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if GOOD_TOKEN.encode() in path.read_bytes()]
    assert not any(GOOD_TOKEN.encode() in data for data in hub.tree("user/run").values())
    assert main([*words, "--hf-token", GOOD_TOKEN, "--no-such-flag"]) == 2
    assert GOOD_TOKEN not in "".join(capsys.readouterr())
