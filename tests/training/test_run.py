"""A run leaves a complete folder, and a resumed run equals an undisturbed one."""

import dataclasses
import errno
import io
import json
import math
import sys

import pytest
import torch

from bit_transformer import BitTransformerLM, ObjectiveConfig, OptimizerConfig, TrainConfig, fit
from bit_transformer.checkpoint.format import load_checkpoint
from bit_transformer.errors import (
    CheckpointMismatchError,
    CheckpointNotFoundError,
    MissingExtraError,
    NonFiniteLossError,
    StorageError,
    UsageError,
)
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.callbacks.metrics_log import MetricsLog
from bit_transformer.training.fit import train_run
from bit_transformer.training.run_folder import RunFolder, find_runs, read_metrics


def _losses(folder):
    return [r["loss"] for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "step"]


def _held_out(folder):
    records = read_metrics(folder / "metrics.jsonl")
    return [r["bits_per_byte"] for r in records if r["kind"] == "evaluation"]


class _StopAfter(Callback):
    def __init__(self, step):
        self._step = step

    def on_step_end(self, trainer, record):
        if record.step == self._step:
            trainer.request_stop()


class _CrashAfter(Callback):
    def __init__(self, step):
        self._step = step

    def on_step_end(self, trainer, record):
        if record.step == self._step:
            raise RuntimeError("power cut")


def test_a_run_learns_and_leaves_a_complete_folder(settings, tmp_path):
    result = train_run(settings(steps=40), tmp_path / "run", progress=False)
    assert result.held_out_bits_per_byte < 5
    assert result.steps == 40
    assert result.data_bytes == 40 * 4 * 32
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "telemetry.png",
        "report.json",
    }
    losses = _losses(tmp_path / "run")
    assert len(losses) == 40
    assert losses[0] == pytest.approx(8, abs=1e-5)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["held_out_bits_per_byte"] == result.held_out_bits_per_byte
    loaded = BitTransformerLM.from_pretrained(tmp_path / "run")
    bits = torch.zeros(1, 40, dtype=torch.uint8)
    assert torch.equal(loaded(bits)[0], result.model(bits)[0])
    assert not loaded.training


@pytest.mark.parametrize("train", [{}, {"weight_average": 0.9}, {"accumulate": 2}])
@pytest.mark.parametrize("crash_at", [5, 8])
def test_a_resumed_run_is_the_undisturbed_one(settings, tmp_path, train, crash_at):
    config = settings(**train)
    train_run(config, tmp_path / "whole", progress=False)
    with pytest.raises(RuntimeError, match="power cut"):
        train_run(config, tmp_path / "cut", progress=False, callbacks=[_CrashAfter(crash_at)])
    train_run(config, tmp_path / "cut", resume=True, progress=False)
    assert _losses(tmp_path / "cut") == _losses(tmp_path / "whole")
    assert _held_out(tmp_path / "cut") == _held_out(tmp_path / "whole")
    weights = [
        load_checkpoint(RunFolder(tmp_path / name).checkpoints.latest()).weights
        for name in ("whole", "cut")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_requested_stop_saves_and_can_be_resumed(settings, tmp_path):
    config = settings(checkpoint_every=0)
    stopped = train_run(config, tmp_path / "run", progress=False, callbacks=[_StopAfter(5)])
    assert stopped.steps == 5
    assert RunFolder(tmp_path / "run").checkpoints.steps() == [5]
    resumed = train_run(config, tmp_path / "run", resume=True, progress=False)
    assert resumed.steps == 12
    train_run(config, tmp_path / "whole", progress=False)
    assert _losses(tmp_path / "run") == _losses(tmp_path / "whole")


def test_resuming_before_the_first_checkpoint_starts_over(settings, tmp_path):
    config = settings()
    with pytest.raises(RuntimeError):
        train_run(config, tmp_path / "run", progress=False, callbacks=[_CrashAfter(2)])
    train_run(config, tmp_path / "run", resume=True, progress=False)
    assert len(_losses(tmp_path / "run")) == 12


def test_accumulation_gives_the_step_of_the_whole_batch(settings, tmp_path):
    def run(name, **train):
        config = settings(steps=3, **train)
        model = dataclasses.replace(config.model, dropout=0.0, memory_dropout=0.0)
        train_run(dataclasses.replace(config, model=model), tmp_path / name, progress=False)
        return _losses(tmp_path / name)

    assert run("two", accumulate=2) == pytest.approx(run("one"), rel=2e-3)


def test_the_saved_weights_are_the_averaged_ones(settings, tmp_path):
    result = train_run(settings(weight_average=0.9), tmp_path / "run", progress=False)
    checkpoint = load_checkpoint(RunFolder(tmp_path / "run").checkpoints.latest(), training=True)
    own = checkpoint.training_state["weights"]
    name = "head.nodes"
    assert torch.equal(checkpoint.weights[name], result.model.network.state_dict()[name])
    assert not torch.equal(checkpoint.weights[name], own[name])


class _Poison(Callback):
    """Sets weights to NaN in the middle of a run."""

    def on_gradients(self, trainer, loss, norm):
        if trainer.progress.step == 6:
            trainer.network.head.nodes.data.fill_(math.nan)


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(settings, tmp_path):
    with pytest.raises(NonFiniteLossError, match="loss is nan in step 8"):
        train_run(settings(), tmp_path / "run", progress=False, callbacks=[_Poison()])
    latest = RunFolder(tmp_path / "run").checkpoints.latest()
    assert latest.name == "step-00000004"
    assert all(weight.isfinite().all() for weight in load_checkpoint(latest).weights.values())


def test_early_stop_ends_a_run_that_no_longer_improves(settings, tmp_path):
    # The rates are almost zero, so the second evaluation is not better than the first.
    config = settings(patience=1, evaluate_every=2, schedule="constant")
    optimizer = OptimizerConfig(lr=1e-12, embedding_lr=1e-12, memory_lr=1e-12)
    config = dataclasses.replace(config, optimizer=optimizer)
    assert train_run(config, tmp_path / "run", progress=False).steps == 4


def test_the_best_checkpoint_stays_beside_the_newest(settings, tmp_path):
    class Worsen(Callback):
        def on_step_end(self, trainer, record):
            if record.step > 4:
                trainer.network.head.nodes.data.mul_(3)

    config = settings(checkpoint_every=4, keep_checkpoints=1, steps=16)
    train_run(config, tmp_path / "run", progress=False, callbacks=[Worsen()])
    assert RunFolder(tmp_path / "run").checkpoints.steps() == [4, 16]


def test_a_run_folder_is_never_overwritten(settings, tmp_path):
    train_run(settings(steps=1), tmp_path / "run", progress=False)
    with pytest.raises(UsageError, match="already holds a run; resume it with --resume"):
        train_run(settings(steps=1), tmp_path / "run", progress=False)


def test_what_cannot_be_resumed(settings, tmp_path):
    config = settings(steps=2)
    with pytest.raises(CheckpointNotFoundError, match="holds no run"):
        train_run(config, tmp_path / "none", resume=True, progress=False)
    train_run(config, tmp_path / "run", progress=False)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, d_model=32))
    with pytest.raises(CheckpointMismatchError, match="another configuration"):
        train_run(other, tmp_path / "run", resume=True, progress=False)
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(corpus.read_bytes() + b"more")
    with pytest.raises(CheckpointMismatchError, match="trained on other bytes"):
        train_run(config, tmp_path / "run", resume=True, progress=False)


def test_fit_trains_the_given_model_on_bytes(tmp_path):
    model = BitTransformerLM(
        d_model=16, nhead=2, num_layers=1, dim_feedforward=32, max_seq_len=128, memory_slots=256
    )
    train = TrainConfig(steps=30, batch_size=4)
    result = fit(model, b"abcd" * 2000, train, out=tmp_path / "run", progress=False)
    assert result.model is model
    assert result.held_out_bits_per_byte < 2
    assert model.score(b"abcd" * 50).bits_per_byte < 2


def test_an_objective_that_is_given_replaces_the_one_of_the_model(tmp_path):
    model = BitTransformerLM(
        d_model=16, nhead=2, num_layers=1, dim_feedforward=32, max_seq_len=256, lambda_K=0.5
    )
    train = TrainConfig(steps=1, batch_size=2)
    for name, given, expected in (
        ("own", {}, ObjectiveConfig(lambda_k=0.5)),
        ("given", {"objective": ObjectiveConfig(lambda_c=0.25)}, ObjectiveConfig(lambda_c=0.25)),
    ):
        fit(model, b"abcd" * 2000, train, out=tmp_path / name, progress=False, **given)
        assert RunFolder(tmp_path / name).config().objective == expected
        assert model.objective == expected


def test_a_loaded_model_has_the_objective_of_its_checkpoint(tmp_path):
    model = BitTransformerLM(d_model=16, nhead=2, num_layers=1, dim_feedforward=32)
    model.objective = ObjectiveConfig("other")
    for name in ("first", "second"):
        model = BitTransformerLM.from_pretrained(model.save_pretrained(tmp_path / name))
        assert model.objective == ObjectiveConfig("other")


def test_nothing_held_out_gives_no_result(settings, tmp_path):
    config = settings(steps=2)
    data = dataclasses.replace(config.data, held_out_fraction=0.0)
    config = dataclasses.replace(config, data=data)
    result = train_run(config, tmp_path / "run", progress=False)
    assert result.held_out_bits_per_byte is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions_train_alike(settings, tmp_path, precision):
    result = train_run(settings(steps=30, precision=precision), tmp_path / "run", progress=False)
    assert result.held_out_bits_per_byte < 5
    assert all(weight.dtype == torch.float32 for weight in result.model.parameters())


def test_tensorboard_files_are_written_when_asked(settings, tmp_path):
    train_run(settings(steps=2, tensorboard=True), tmp_path / "run", progress=False)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


class _FakeTrackio:
    """Keeps the values that the writer sends to trackio."""

    def __init__(self):
        self.logged, self.opened, self.closed = [], {}, False

    def init(self, **settings):
        self.opened = settings

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.closed = True


def test_trackio_hears_of_steps_and_evaluations(settings, tmp_path, monkeypatch):
    fake = _FakeTrackio()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    train_run(settings(steps=2, trackio=True), tmp_path / "run", progress=False)
    assert fake.opened["name"] == "run"
    assert fake.closed
    assert [step for step, values in fake.logged if "loss" in values] == [1, 2]
    assert [step for step, values in fake.logged if "held_out_bits_per_byte" in values] == [2]


@pytest.mark.parametrize(
    ("setting", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("trackio", "trackio")],
)
def test_a_missing_writer_names_its_extra(settings, tmp_path, monkeypatch, setting, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"bit-transformer\[{setting}\]"):
        train_run(settings(**{setting: True}), tmp_path / "run", progress=False)


def test_a_full_disk_while_logging_is_reported(settings, tmp_path):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    class FillTheDisk(Callback):
        def on_step_end(self, trainer, record):
            log = next(c for c in trainer.callbacks if isinstance(c, MetricsLog))
            log._file.close()
            log._file = Full()

    with pytest.raises(StorageError, match=r"metrics.jsonl: No space left on device"):
        train_run(settings(), tmp_path / "run", progress=False, callbacks=[FillTheDisk()])


def test_runs_are_found_with_how_far_they_are(settings, tmp_path):
    train_run(settings(steps=2), tmp_path / "runs" / "a", progress=False)
    (summary,) = (run.summary() for run in find_runs(tmp_path / "runs"))
    assert summary["step"] == summary["steps"] == 2
    assert summary["ended"]
    assert summary["bits_per_byte"] > 0


def test_a_metrics_file_cut_by_a_kill_is_read_up_to_the_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
