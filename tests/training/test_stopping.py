"""Tests of signals at every moment of a training, and of the files that are left."""

import os
import signal
import sys
import time
from contextlib import suppress

import pytest

from bit_transformer.cli.main import main
from bit_transformer.errors import Interrupted
from bit_transformer.objectives import causal
from bit_transformer.training.callbacks import gate, stop_signals
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.callbacks.stop_signals import StopSignals, lasting_stderr
from bit_transformer.training.fit import train_run
from bit_transformer.training.run_folder import RunFolder, read_metrics
from tests.training.test_one_writer import TINY

SHORT = [*TINY, "--steps", "6", "--evaluate-every", "2", "--checkpoint-every", "0", "--json"]
SHORT += ["--held-out-fraction", "0.3"]


@pytest.fixture
def words(corpus, tmp_path):
    return ["train", str(corpus), "--out", str(tmp_path / "run"), *SHORT]


def _evaluations(folder):
    lines = [
        line for line in read_metrics(folder / "metrics.jsonl") if line["kind"] == "evaluation"
    ]
    return [(line["step"], line["bits_per_byte"], line["final"]) for line in lines]


def _signal_at(monkeypatch, place, name, call, number=signal.SIGINT):
    """Send a signal at the `call`-th call of a function of a module."""
    original, calls = getattr(place, name), []

    def told(*arguments, **more):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(number)
        return original(*arguments, **more)

    monkeypatch.setattr(place, name, told)


def test_an_evaluation_is_broken_off_and_made_up_for(words, tmp_path, monkeypatch, capsys):
    whole = [word.replace(str(tmp_path / "run"), str(tmp_path / "whole")) for word in words]
    assert main(whole) == 0
    with monkeypatch.context() as patch:
        _signal_at(patch, causal, "stream_surprisal", 1)
        assert main(words) == 130
    error = capsys.readouterr().err
    assert "stopped at step 2 of 6; resume with: bit-transformer train --resume --out" in error
    assert _evaluations(tmp_path / "run") == []
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    assert _evaluations(tmp_path / "run") == _evaluations(tmp_path / "whole")
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in line]
        for name in ("run", "whole")
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("place", "name", "call"), [(causal, "stream_surprisal", 70), (gate, "byte_metrics", 1)]
)
def test_the_end_of_a_run_is_broken_off_saved(
    words, tmp_path, monkeypatch, capsys, place, name, call
):
    with monkeypatch.context() as patch:
        _signal_at(patch, place, name, call, signal.SIGTERM)
        assert main(words) == 143
    printed = capsys.readouterr()
    assert "stopped at step 6 of 6; resume with" in printed.err
    assert printed.out == ""
    run = RunFolder(tmp_path / "run")
    assert run.checkpoints.steps() == [6]
    assert run.report() is None
    assert main(["train", "--resume", "--out", str(run.path)]) == 0
    assert run.report()["gate"]["calibrated"]
    assert [final for _, _, final in _evaluations(run.path)] == [False, False, True]


def test_a_signal_before_anything_is_saved_says_so(words, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        _signal_at(patch, RunFolder, "dataset", 1, signal.SIGHUP)
        assert main(words) == 129
    assert "stopped before the run began; nothing was written to" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    from bit_transformer.training.trainer import Trainer

    with monkeypatch.context() as patch:
        _signal_at(patch, Trainer, "step", 1)
        assert main(words) == 130
    assert "before the first checkpoint, so nothing is saved" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0


def test_a_signal_during_the_comparison_leaves_a_complete_run(words, tmp_path, monkeypatch, capsys):
    from bit_transformer.inference import baselines

    with monkeypatch.context() as patch:
        _signal_at(patch, baselines, "compressed_bits_per_byte", 1)
        assert main(words) == 130
    error = capsys.readouterr().err
    assert "is complete; compare it with: bit-transformer eval" in error
    assert RunFolder(tmp_path / "run").summary()["ended"]


def test_a_second_signal_ends_at_once_with_the_last_checkpoint(
    words, tmp_path, monkeypatch, capsys
):
    class Impatient(Callback):
        def on_gradients(self, trainer, loss, norm):
            if trainer.progress.step == 4:
                for _ in range(2):
                    signal.raise_signal(signal.SIGINT)
                    time.sleep(0.01)

    original = StopSignals.on_start

    def on_start(self, trainer):
        original(self, trainer)
        trainer.callbacks.append(Impatient())

    monkeypatch.setattr(StopSignals, "on_start", on_start)
    every = [*words, "--checkpoint-every", "3"]
    # Two signals within a moment count as one.
    assert main(every) == 130
    assert "stopped at step 5 of 6" in capsys.readouterr().err
    monkeypatch.setattr(stop_signals, "_REPEAT_SECONDS", 0.0)
    every[3] = str(tmp_path / "other")
    assert main(every) == 130
    assert "the last checkpoint is from step 3; resume with" in capsys.readouterr().err
    assert RunFolder(tmp_path / "other").checkpoints.latest(training=True).name == "step-00000003"


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in stop_signals.SIGNALS]
    with pytest.raises(Interrupted) as caught, StopSignals():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert [signal.getsignal(number) for number in stop_signals.SIGNALS] == before


def test_a_gone_terminal_does_not_end_a_run(settings, tmp_path, monkeypatch):
    master, terminal = os.openpty()
    # Closing the stream fails too, because it cannot write the rest of its buffer.
    with suppress(OSError), os.fdopen(terminal, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)

        class Close(Callback):
            def on_step_end(self, trainer, record):
                if record.step == 2:
                    os.close(master)

        with lasting_stderr():
            result = train_run(settings(), tmp_path / "run", callbacks=[Close()])
        monkeypatch.undo()
    assert result.steps == 12
