"""Tests of the progress bar: the forecast of the duration, and the time left."""

from unittest.mock import MagicMock

import pytest

from bit_transformer.training.callbacks import progress as module
from bit_transformer.training.callbacks.base import (
    EvaluationRecord,
    Progress,
    RunningTrainer,
    StepRecord,
)
from bit_transformer.training.callbacks.progress import ProgressBar, in_words
from bit_transformer.training.config import TrainConfig

BYTES_A_STEP = 2_000


class Clock:
    """A clock that advances only when a test sets it."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def _trainer(steps):
    trainer = MagicMock(spec=RunningTrainer)
    trainer.config, trainer.progress = TrainConfig(steps=steps), Progress()
    return trainer


def _steps(bar, trainer, clock, count, seconds):
    for _ in range(count):
        done = trainer.progress
        done.step, done.data_bytes = done.step + 1, done.data_bytes + BYTES_A_STEP
        done.seconds, clock.now = done.seconds + seconds, clock.now + seconds
        bar.on_step_end(
            trainer,
            StepRecord(done.step, 3.0, 0.01, 1.0, done.data_bytes, done.seconds),
        )


def test_a_run_says_at_its_start_how_long_it_takes(clock, capsys):
    bar, trainer = ProgressBar(bytes_at_end=100_000), _trainer(101)
    bar.on_start(trainer)
    _steps(bar, trainer, clock, 6, 1.0)
    said = capsys.readouterr().err
    # 95 steps take 95 s. 100,000 bytes then take 50 s at the 2,000 bytes/s of the training.
    assert "about 2 min 25 s here: 101 steps, then 50 s for the last evaluation" in said
    _steps(bar, trainer, clock, 5, 1.0)
    assert "takes about" not in capsys.readouterr().err


def test_a_short_run_says_nothing_of_it(clock, capsys):
    bar, trainer = ProgressBar(bytes_at_end=1_000), _trainer(10)
    bar.on_start(trainer)
    _steps(bar, trainer, clock, 9, 0.1)
    assert "takes about" not in capsys.readouterr().err


def test_the_time_left_includes_what_comes_after_the_last_step(clock, capsys):
    bar, trainer = ProgressBar(bytes_at_end=100_000), _trainer(40)
    bar.on_start(trainer)
    _steps(bar, trainer, clock, 2, 1.0)
    clock.now += 4
    bar.on_evaluation(trainer, EvaluationRecord(2, 2.5, 16_000, final=False))
    _steps(bar, trainer, clock, 38, 1.0)
    # At step 26, 14 steps are left. 100,000 bytes then take 25 s at the 4,000 bytes/s measured.
    assert capsys.readouterr().err.splitlines()[-1].endswith("39 s left")


def test_a_slow_first_step_does_not_count(clock, capsys):
    bar, trainer = ProgressBar(), _trainer(101)
    bar.on_start(trainer)
    _steps(bar, trainer, clock, 1, 300.0)
    capsys.readouterr()
    _steps(bar, trainer, clock, 5, 1.0)
    assert "about 1 min 35 s here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_in_words(seconds, said):
    assert in_words(seconds) == said
