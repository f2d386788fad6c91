"""Tests of resuming: which run is resumed, from which checkpoint, and with which data."""

import dataclasses
import io
import json
import os
import sys

import pytest
import torch

from bit_transformer import BitTransformerLM, DataConfig, OptimizerConfig, TrainConfig, fit
from bit_transformer.cli.main import main
from bit_transformer.data.sources import absolute_source
from bit_transformer.errors import (
    CheckpointCorruptError,
    InvalidPredictionError,
    NonFiniteLossError,
    SourceError,
)
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.fit import train_run
from bit_transformer.training.run_folder import RunFolder, newest_run, read_metrics
from tests.training.test_one_writer import TINY, start


class _CrashAfter(Callback):
    def __init__(self, step):
        self._step = step

    def on_step_end(self, trainer, record):
        if record.step == self._step:
            raise RuntimeError("power cut")


def _crashed(config, folder, step=6, resume=False):
    crash = _CrashAfter(step)
    with pytest.raises(RuntimeError, match="power cut"):
        train_run(config, folder, resume=resume, progress=False, callbacks=[crash])


def test_resume_takes_the_run_that_was_written_to_last_and_says_so(
    settings, tmp_path, monkeypatch, capsys
):
    for name in ("z-old", "a-new"):
        train_run(settings(steps=1), tmp_path / "runs" / name, progress=False)
    for path in (tmp_path / "runs" / "z-old").rglob("*"):
        os.utime(path, (1, 1))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", "--steps", "2", "--json"]) == 0
    printed = capsys.readouterr()
    assert "bit-transformer: resuming runs/a-new" in printed.err
    assert json.loads(printed.out)["run"] == "runs/a-new"
    # The newest written file decides, and not the time when the folder was made.
    os.utime(tmp_path / "runs" / "z-old" / "metrics.jsonl")
    assert newest_run(tmp_path / "runs").path.name == "z-old"
    monkeypatch.chdir(tmp_path / "runs" / "z-old")
    assert main(["train", "--resume"]) == 1
    assert "there is no run in runs to resume" in capsys.readouterr().err


def test_all_runs_are_listed_when_one_is_broken(settings, tmp_path, capsys):
    runs = tmp_path / "runs"
    for name in ("whole", "no-json", "no-settings", "no-text", "no-kind"):
        train_run(settings(steps=1), runs / name, progress=False)
    (runs / "no-json" / "config.json").write_text("{")
    (runs / "no-settings" / "config.json").write_text('{"train": {"stepz": 3}}')
    (runs / "no-text" / "report.json").write_bytes(b"\xff")
    (runs / "no-kind" / "metrics.jsonl").write_text('{"step": 1}\n')
    assert main(["runs", str(runs), "--json"]) == 0
    found = {os.path.basename(one["run"]): one for one in json.loads(capsys.readouterr().out)}
    assert found["whole"]["problem"] is None
    assert found["whole"]["steps"] == 1
    assert "is not valid JSON" in found["no-json"]["problem"]
    assert "did you mean steps?" in found["no-settings"]["problem"]
    assert "cannot be read" in found["no-text"]["problem"]
    assert "cannot be read" in found["no-kind"]["problem"]
    assert main(["runs", str(runs)]) == 0
    assert "broken:" in capsys.readouterr().out


def test_a_run_finds_its_data_from_another_folder(settings, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = settings()
    relative = dataclasses.replace(config, data=DataConfig((corpus.name, "*.txt")))
    _crashed(relative, tmp_path / "run")
    recorded = RunFolder(tmp_path / "run").config()
    assert recorded.data.sources == (str(corpus), str(tmp_path / "*.txt"))
    monkeypatch.chdir("/")
    assert train_run(recorded, tmp_path / "run", resume=True, progress=False).steps == 12


def test_sources_by_whole_paths(tmp_path, monkeypatch):
    odd = tmp_path / "a[1]"
    (odd / "set").mkdir(parents=True)
    (odd / "b[2].txt").write_text("x")
    monkeypatch.chdir(odd)
    assert absolute_source("-") == "-"
    assert absolute_source("/x/y") == "/x/y"
    assert absolute_source("b[2].txt") == str(odd / "b[2].txt")
    assert absolute_source("*.txt") == f"{tmp_path}/a[[]1]/*.txt"
    assert absolute_source("hf://owner/name?split=test") == "hf://owner/name?split=test"
    assert absolute_source("hf://set?bytes=9") == f"hf://{tmp_path}/a%5B1%5D/set?bytes=9"
    assert absolute_source("~/x") == os.path.expanduser("~/x")


def test_standard_input_is_read_once_a_run(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(corpus.read_bytes())))
    words = ["train", "-", "--out", str(tmp_path / "run"), *TINY, "--steps", "2", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["baselines"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"other words")))
    assert main(["train", "--resume", "--out", str(tmp_path / "run"), "--steps", "4"]) == 0


def test_resuming_passes_over_a_damaged_checkpoint_and_refuses_when_all_are(
    settings, tmp_path, caplog
):
    config = settings(checkpoint_every=2)
    _crashed(config, tmp_path / "run", step=5)
    run = RunFolder(tmp_path / "run")

    def damage(step):
        weights = run.checkpoints.path_of(step) / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)

    damage(4)
    _crashed(config, tmp_path / "run", step=3, resume=True)
    assert "step-00000004/model.safetensors has changed since it was written" in caplog.text
    assert "step-00000002 is used instead" in caplog.text
    damage(2)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointCorruptError, match="holds no complete checkpoint"):
        train_run(config, tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def _tensorboard_steps(folder):
    from bit_transformer.training.callbacks.tensorboard import _events

    found = {}
    for path in sorted(folder.glob("events.*")):
        for _, event in _events(path):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    return found


def test_no_step_is_in_the_event_files_twice_after_a_resume(settings, tmp_path):
    config = settings(tensorboard=True)
    _crashed(config, tmp_path / "run")
    for _ in range(2):
        # The second time, no step is left, and only the last evaluation runs again.
        train_run(config, tmp_path / "run", resume=True, progress=False)
        found = _tensorboard_steps(tmp_path / "run" / "tensorboard")
        assert found["train/loss"] == list(range(1, 13))
        assert found["held_out/bits_per_byte"] == [4, 8, 12]
        lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
        kinds = [(line["kind"], line["step"]) for line in lines]
        assert len(kinds) == len(set(kinds))


def test_an_ended_run_that_goes_on_has_not_ended(settings, tmp_path):
    train_run(settings(), tmp_path / "run", progress=False)
    assert RunFolder(tmp_path / "run").summary()["ended"]
    with pytest.raises(RuntimeError):
        train_run(
            settings(steps=20),
            tmp_path / "run",
            resume=True,
            progress=False,
            callbacks=[_CrashAfter(14)],
        )
    assert not RunFolder(tmp_path / "run").summary()["ended"]


def test_a_run_that_learned_nothing_fails_and_stays(corpus, tmp_path, capsys, caplog):
    words = ["train", str(corpus), "--out", str(tmp_path / "run"), *TINY, "--steps", "4"]
    assert main([*words, "--lr", "1e30", "--embedding-lr", "1e-30", "--memory-lr", "1e-30"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert (
        "learned nothing: it needs 8.000 bits per byte of held-out data, and an untrained model"
        in error
    )
    assert RunFolder(tmp_path / "run").summary()["ended"]
    model = BitTransformerLM(d_model=16, nhead=2, num_layers=1, dim_feedforward=32)
    train = TrainConfig(steps=2, batch_size=2)
    dead = OptimizerConfig(lr=1e-30, embedding_lr=1e-30, memory_lr=1e-30)
    fit(model, os.urandom(20_000), train, optimizer=dead, out=tmp_path / "b", progress=False)
    assert "learned nothing" in caplog.text


def test_a_run_that_does_not_begin_leaves_no_copy_of_its_data(tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine"
    (mine / "data").mkdir(parents=True)
    (mine / "data" / "notes.txt").write_text("mine")
    for folder in (tmp_path / "new", mine):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x")))
        assert main(["train", "-", "--out", str(folder), *TINY]) == 1
        assert "too few to hold out" in capsys.readouterr().err
    model = BitTransformerLM(d_model=16, nhead=2, num_layers=1, dim_feedforward=32)
    for folder in (tmp_path / "new", mine):
        with pytest.raises(SourceError, match="too few to hold out"):
            fit(model, b"x", out=folder, progress=False)
    assert not (tmp_path / "new").exists()
    assert [path.name for path in sorted(mine.rglob("*"))] == ["data", "notes.txt"]


def test_weights_that_are_not_finite_are_not_saved(settings, tmp_path):
    class Break(Callback):
        def on_step_end(self, trainer, record):
            if record.step == 5:
                trainer.network.head.nodes.data[0] = float("inf")
                trainer.checkpoint_requested = True

    class First(Break):
        def on_gradients(self, trainer, loss, norm):
            if trainer.progress.step == 5:
                trainer.network.head.nodes.data[0] = float("inf")

    with pytest.raises(NonFiniteLossError):
        train_run(settings(steps=6), tmp_path / "run", progress=False, callbacks=[First()])
    assert RunFolder(tmp_path / "run").checkpoints.steps() == [4]


@pytest.mark.parametrize(
    "words", [["score"], ["eval", "--json"], ["compress"], ["gate"], ["telemetry"], ["generate"]]
)
def test_damaged_weights_are_one_error_everywhere(words, corpus, tmp_path, capsys):
    model = BitTransformerLM(
        d_model=16, nhead=2, num_layers=1, dim_feedforward=32, max_seq_len=256, memory_slots=256
    )
    model.network.head.nodes.data.fill_(float("nan"))
    run = model.save_pretrained(tmp_path / "run")
    command, *flags = words
    named = [run] if command == "generate" else [run, corpus]
    assert main([command, *map(str, named), *flags]) == 1
    printed = capsys.readouterr()
    assert "the model's weights are damaged: load a good checkpoint" in printed.err
    assert "NaN" not in printed.out
    with pytest.raises(InvalidPredictionError, match="the model's weights are damaged"):
        model.score(b"abc")


def test_a_step_is_in_trackio_once(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    logged = []

    class Storage:
        @staticmethod
        def get_last_step(project, run):
            return max(logged)

    class Fake:
        SQLiteStorage = Storage

        @staticmethod
        def init(**settings):
            assert settings["resume"] == ("allow" if logged else "never")

        @staticmethod
        def log(values, step):
            if "loss" in values:
                logged.append(step)

        @staticmethod
        def finish():
            pass

    monkeypatch.setitem(sys.modules, "trackio", Fake)
    monkeypatch.setitem(sys.modules, "trackio.sqlite_storage", Fake)
    config = settings(trackio=True)
    _crashed(config, tmp_path / "run")
    train_run(config, tmp_path / "run", resume=True, progress=False)
    assert logged == list(range(1, 13))


def test_too_few_windows_for_a_gate_are_told_with_the_number(settings, tmp_path, caplog):
    result = train_run(settings(steps=1), tmp_path / "run", progress=False)
    assert not result.gate["calibrated"]
    assert "it needs at least 115 held-out windows of 32 bytes and there are" in caplog.text
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["gate"]["reason"] in caplog.text
    bits = torch.zeros(1, 8, dtype=torch.uint8)
    assert result.model(bits)[0].isfinite().all()


def test_generating_through_the_documented_floors_says_how_little_they_see(
    settings, tmp_path, capsysbinary
):
    train_run(settings(steps=1), tmp_path / "run", progress=False)
    main(["generate", str(tmp_path / "run"), "--gate", "--new-bytes", "4"])
    assert b"the documented floors of C and S are nearly blind" in capsysbinary.readouterr().err


@pytest.mark.parametrize(
    "words", [["train", "--no-such"], ["memory", "--help"], ["runs", "--help"]]
)
def test_help_and_usage_errors_load_no_torch(words):
    code = "import sys; from bit_transformer.cli.main import main; main(sys.argv[1:]); "
    code += "sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    ended = start("-c", code, *words)
    ended.communicate()
    assert ended.returncode == 0
