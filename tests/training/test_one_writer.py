"""A run folder has one writer, and other processes are told who it is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bit_transformer import BitTransformerLM, TrainConfig, fit
from bit_transformer.checkpoint.lock import LOCK, sole_writer
from bit_transformer.cli.main import main
from bit_transformer.errors import BusyError, StorageError
from bit_transformer.training.fit import train_run
from bit_transformer.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
TINY = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--dim-feedforward", "32"]
TINY += ["--max-seq-len", "256", "--memory-slots", "256", "--device", "cpu", "--batch-size", "4"]
HOLD = """
import sys, time
from pathlib import Path
from bit_transformer.checkpoint.lock import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def start(*words):
    """Start Python with the code of this repository."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def hold():
    """Return a function that makes another process hold the lock of a folder."""
    processes = []

    def holding(folder, *words):
        processes.append(start("-c", HOLD, folder, *words))
        assert processes[-1].stdout.readline() == "held\n"
        return processes[-1]

    yield holding
    for process in processes:
        process.kill()
        process.communicate()


def _content(folder):
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


def test_a_second_writer_is_told_who_writes_and_changes_nothing(settings, tmp_path, hold, capsys):
    folder = tmp_path / "run"
    train_run(settings(steps=2), folder, progress=False)
    before = _content(folder)
    holder = hold(folder, "--hf-token", "hf_secret")
    for resume in (False, True):
        with pytest.raises(BusyError) as caught:
            train_run(settings(steps=4), folder, resume=resume, progress=False)
        message = str(caught.value)
        assert f"{folder} is being written by process {holder.pid} on " in message
        assert " since 20" in message
        assert "--hf-token '***'" in message
        assert caught.value.owner.startswith(f"process {holder.pid} on ")
    model = BitTransformerLM(d_model=16, nhead=2, num_layers=1, dim_feedforward=32)
    with pytest.raises(BusyError):
        fit(model, b"abcd" * 999, TrainConfig(steps=1), out=folder, progress=False)
    assert main(["train", "--resume", "--out", str(folder), "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"is being written by process {holder.pid}" in printed.err
    assert _content(folder) == before


def test_the_lock_of_a_killed_process_is_free(settings, tmp_path, hold):
    folder = tmp_path / "run"
    holder = hold(folder)
    holder.kill()
    holder.wait()
    assert (folder / LOCK).exists()
    assert train_run(settings(steps=1), folder, progress=False).steps == 1
    assert not (folder / LOCK).exists()


def test_a_lock_of_another_machine_is_named_as_such(tmp_path, hold):
    hold(tmp_path / "run")
    lock = tmp_path / "run" / LOCK
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"host": "elsewhere"}))
    with pytest.raises(BusyError, match="on elsewhere, another machine, since"):
        RunFolder(tmp_path / "run").writing().__enter__()
    lock.write_text("")
    with pytest.raises(BusyError, match="another process writes in"):
        RunFolder(tmp_path / "run").writing().__enter__()


def test_the_holder_may_enter_again_and_leaves_nothing(tmp_path):
    with sole_writer(tmp_path / "run"), sole_writer(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).exists()
    assert not (tmp_path / "run").exists()


def test_a_file_system_without_locks_works_with_a_warning(tmp_path, monkeypatch, caplog):
    import errno
    import fcntl

    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with sole_writer(tmp_path / "run"):
        (tmp_path / "run" / "a").touch()
    assert "a file system without locks" in caplog.text
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a"]


def test_a_place_that_cannot_be_written_is_told_before_any_training(settings, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        train_run(settings(), tmp_path / "file" / "run", progress=False)


def test_a_full_disk_stops_the_run_in_one_line_with_the_last_checkpoint_whole(corpus, tmp_path):
    # From step 3 on, files may have 20,000 bytes, so the second checkpoint does not fit.
    code = (
        "import resource, sys\n"
        "from bit_transformer.training.callbacks.checkpoints import Checkpoints\n"
        "save = Checkpoints._save\n"
        "def limited(self, trainer):\n"
        "    if trainer.progress.step > 2:\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "    save(self, trainer)\n"
        "Checkpoints._save = limited\n"
        "from bit_transformer.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["train", corpus, "--out", tmp_path / "run", *TINY, "--checkpoint-every", "2"]
    ended = start("-c", code, *words)
    _, told = ended.communicate()
    assert ended.returncode == 1
    (line,) = [one for one in told.splitlines() if one.startswith("bit-transformer: cannot")]
    assert "step-00000004: File too large; the file system or `ulimit -f` allows no larger" in line
    assert "Traceback" not in told
    assert RunFolder(tmp_path / "run").checkpoints.latest(training=True).name == "step-00000002"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_training_saved_and_another_one_is_kept_out(corpus, tmp_path, number):
    folder = tmp_path / "run"
    words = ["train", str(corpus), "--out", str(folder), *TINY]
    process = start("-m", "bit_transformer", *words, "--steps", "1000000", "--json")
    metrics = folder / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    if number == signal.SIGTERM:
        assert main(words) == 1
        assert main([*words, "--resume"]) == 1
    process.send_signal(number)
    printed, told = process.communicate(timeout=60)
    saved = RunFolder(folder).checkpoints.latest(training=True)
    step = int(saved.name.removeprefix("step-"))
    assert told.strip().splitlines()[-1] == (
        f"bit-transformer: stopped at step {step} of 1000000; resume with: "
        f"bit-transformer train --resume --out {folder}"
    )
    assert (process.returncode, printed) == (128 + number, "")
    assert RunFolder(folder).summary()["step"] == step
    assert not RunFolder(folder).summary()["ended"]
