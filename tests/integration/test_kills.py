"""A run that is killed at any moment resumes with exactly the same results."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORDS = "to be or not to be, that is the question whether it is nobler in the mind to suffer "
MODEL = ["--d-model=16", "--nhead=2", "--num-layers=1", "--dim-feedforward=32"]
MODEL += ["--max-seq-len=256", "--memory-slots=256", "--dropout=0.1", "--device=cpu"]
TRAIN = ["--batch-size=4", "--checkpoint-every=10"]
TRAIN += ["--evaluate-every=100", "--evaluate-bytes=256"]


def _command(corpus: Path, run: Path, steps: int, *, resume: bool) -> list[str]:
    words = [sys.executable, "-m", "bit_transformer", "train", str(corpus), "--out", str(run)]
    return [*words, *MODEL, *TRAIN, f"--steps={steps}", *(["--resume"] if resume else [])]


def _start(corpus: Path, run: Path, steps: int) -> subprocess.Popen[bytes]:
    resume = (run / "config.json").exists()
    command = _command(corpus, run, steps, resume=resume)
    with (run.parent / "output.txt").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def _records(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _kill_on_the_way(process: subprocess.Popen[bytes], run: Path, chance: random.Random) -> None:
    """Wait until this process has logged some steps, then a random moment, then kill it."""
    began, wanted = len(_records(run)), chance.randint(1, 15)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        # A resumed run first drops the records after its checkpoint.
        began = min(began, len(_records(run)))
        if len(_records(run)) >= began + wanted:
            break
        time.sleep(0.01)
    time.sleep(chance.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(
    ("kills", "steps"),
    [(2, 60), pytest.param(20, 400, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])],
)
def test_a_killed_run_goes_on_exactly(tmp_path, kills, steps):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(WORDS * 200)
    subprocess.run(_command(corpus, tmp_path / "whole", steps, resume=False), check=True)
    chance, killed = random.Random(0), 0
    while killed < kills:
        process = _start(corpus, tmp_path / "cut", steps)
        _kill_on_the_way(process, tmp_path / "cut", chance)
        if process.returncode == 0:  # It ended before the kill, so start over.
            shutil.rmtree(tmp_path / "cut")
            killed = 0
            continue
        assert process.returncode == -signal.SIGKILL, (tmp_path / "output.txt").read_text()
        killed += 1
    assert _start(corpus, tmp_path / "cut", steps).wait() == 0, (
        tmp_path / "output.txt"
    ).read_text()
    for name in ("loss", "bits_per_byte", "gradient_norm", "lr"):
        whole, cut = (
            [(r["step"], r[name]) for r in _records(tmp_path / run) if name in r]
            for run in ("whole", "cut")
        )
        assert cut == whole
