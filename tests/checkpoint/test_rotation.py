import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bit_transformer.checkpoint.format import MANIFEST, MODEL, TRAINING, load_checkpoint
from bit_transformer.checkpoint.rotation import CheckpointFolder
from bit_transformer.errors import (
    CheckpointCorruptError,
    CheckpointVersionError,
    ConfigError,
    StorageError,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "checkpoints")


def save(folder, *steps, **config):
    for step in steps:
        folder.save(step, weights={"w": torch.ones(2)}, config={"step": step} | config)


def names(folder):
    return sorted(path.name for path in folder.root.iterdir())


def test_checkpoints_are_named_by_step_and_the_pointer_names_the_newest(folder):
    assert folder.save(7, weights={}, config={}) == folder.path_of(7)
    save(folder, 1000, 123_456_789)
    assert names(folder) == ["latest", "step-00000007", "step-00001000", "step-123456789"]
    assert (folder.root / "latest").read_text() == "step-123456789\n"
    assert folder.steps() == [7, 1000, 123_456_789]
    assert folder.latest() == folder.path_of(123_456_789)


def test_all_parts_are_saved(folder):
    path = folder.save(
        1, weights={"w": torch.ones(2)}, config={"a": 1}, training_state=[5], metadata={"b": 2}
    )
    checkpoint = load_checkpoint(path, training=True)
    assert (checkpoint.config, checkpoint.metadata) == ({"a": 1}, {"b": 2})
    assert checkpoint.training_state == [5]
    assert checkpoint.weights["w"].tolist() == [1, 1]


def test_an_empty_or_missing_folder_has_no_latest(folder):
    assert (folder.latest(), folder.steps()) == (None, [])
    folder.prune(1)
    folder.root.mkdir()
    assert (folder.latest(), folder.steps()) == (None, [])


def test_the_pointer_decides_after_going_back(folder):
    save(folder, 5, 9, 6)
    assert folder.latest() == folder.path_of(6)


@pytest.mark.parametrize("pointer", [None, b"", b"\xff", b"step-00000008", b"../x", b"a\0b"])
def test_a_bad_pointer_falls_back_to_the_newest(folder, pointer):
    save(folder, 5, 9, 6)
    (folder.root / "latest").unlink()
    if pointer is not None:
        (folder.root / "latest").write_bytes(pointer)
    assert folder.latest() == folder.path_of(9)


def test_the_pointer_cannot_lead_out_of_the_folder(folder, sample):
    save(folder, 5)
    sample.write(folder.root.parent / "export")
    (folder.root / "latest").write_text("../export\n")
    assert folder.latest() == folder.path_of(5)


@pytest.mark.parametrize("damage", ["manifest", "size", "bit", "missing", "gone"])
def test_a_damaged_checkpoint_is_passed_over_and_both_are_named(folder, damage, caplog):
    save(folder, 1, 2, 3)
    newest = folder.path_of(3)
    if damage == "manifest":
        (newest / MANIFEST).write_bytes(b"{")
    elif damage == "size":
        (newest / MODEL).write_bytes(b"short")
    elif damage == "bit":
        content = bytearray((newest / MODEL).read_bytes())
        content[-1] ^= 1
        (newest / MODEL).write_bytes(content)
    elif damage == "missing":
        (newest / MODEL).unlink()
    else:
        shutil.rmtree(newest)
    assert folder.latest() == folder.path_of(2)
    folder.latest()
    # The damage is logged once per process, although it was found twice.
    (record,) = caplog.records
    assert str(newest) in record.message
    assert f"the checkpoint {folder.path_of(2)} is used instead" in record.message


def test_a_damaged_training_state_matters_to_whoever_resumes(folder, caplog):
    for step in (1, 2):
        folder.save(step, weights={"w": torch.ones(2)}, config={}, training_state=[torch.ones(2)])
    path = folder.path_of(2) / TRAINING
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert folder.latest() == folder.path_of(2)
    assert not caplog.records
    assert folder.latest(training=True) == folder.path_of(1)
    assert "training.safetensors has changed since it was written" in caplog.text


def test_nothing_whole_is_an_error_and_no_new_beginning(folder):
    save(folder, 1, 2)
    for step in (1, 2):
        (folder.path_of(step) / MANIFEST).unlink()
    with pytest.raises(
        CheckpointCorruptError, match=r"no complete checkpoint: .*step-00000002 is no"
    ):
        folder.latest()


def test_a_newer_version_is_not_skipped_in_silence(folder, sample):
    save(folder, 1, 2)
    sample.reseal(folder.path_of(2), version=99)
    with pytest.raises(CheckpointVersionError):
        folder.latest()


def test_other_names_are_not_steps(folder):
    save(folder, 3)
    for name in ("step-7", "step-x", "step-0000000٣", "step-00000007-old", "other"):
        (folder.root / name).mkdir()
    assert folder.steps() == [3]


@pytest.mark.parametrize(
    ("keep", "left"), [(0, [4]), (1, [4]), (2, [3, 4]), (4, [1, 2, 3, 4]), (9, [1, 2, 3, 4])]
)
def test_prune_keeps_the_newest(folder, keep, left):
    save(folder, 1, 2, 3, 4)
    folder.prune(keep)
    assert folder.steps() == left
    assert names(folder) == ["latest", *(folder.path_of(step).name for step in left)]


def test_prune_spares_the_protected_and_the_latest(folder, monkeypatch):
    save(folder, 2, 3, 4, 5, 1)
    monkeypatch.chdir(folder.root)
    folder.prune(1, protect={folder.path_of(3), Path("step-00000002"), folder.path_of(77)})
    assert folder.steps() == [1, 2, 3, 5]


def test_prune_spares_the_whole_one_when_newer_ones_are_damaged(folder):
    save(folder, 1, 2, 3)
    for step in (2, 3):
        (folder.path_of(step) / MODEL).write_bytes(b"")
    folder.prune(1)
    assert folder.latest() == folder.path_of(1)


def test_protected_paths_may_be_absolute_where_the_folder_is_not(folder, monkeypatch):
    save(folder, 1, 2, 3)
    monkeypatch.chdir(folder.root.parent)
    CheckpointFolder(Path("checkpoints")).prune(1, protect={folder.path_of(1)})
    assert folder.steps() == [1, 3]


def test_prune_goes_oldest_first(folder, monkeypatch):
    save(folder, 1, 2, 3)
    removed, rename = [], os.rename

    def note(source, target):
        removed.append(Path(source).name)
        rename(source, target)

    monkeypatch.setattr(os, "rename", note)
    folder.prune(1)
    assert removed == ["step-00000001", "step-00000002"]


def test_prune_refuses_a_negative_number(folder):
    with pytest.raises(ConfigError, match="keep must be 0 or more, got -1"):
        folder.prune(-1)


def test_prune_on_a_refusing_disk_is_a_storage_error(folder, monkeypatch):
    save(folder, 1, 2)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(StorageError, match=r"step-00000001: Permission denied; choose a folder"):
        folder.prune(1)
    assert folder.steps() == [1, 2]


def test_the_same_step_is_replaced(folder):
    save(folder, 1)
    save(folder, 1, second=True)
    assert load_checkpoint(folder.path_of(1)).config == {"step": 1, "second": True}
    assert names(folder) == ["latest", "step-00000001"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_full_disk_keeps_the_checkpoints_that_were_there(folder, monkeypatch, step):
    save(folder, 1)

    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError, match=rf"step-0000000{step}: No space left on device"):
            save(folder, step, second=True)
    assert load_checkpoint(folder.latest()).config == {"step": 1}
    assert names(folder) == ["latest", "step-00000001"]


def test_the_pointer_is_moved_only_to_a_whole_checkpoint(folder, monkeypatch):
    save(folder, 1)
    seen, replace = [], os.replace

    def note(source, target):
        seen.append((Path(target).name, folder.steps()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    save(folder, 2)
    assert seen == [("latest", [1, 2])]


def test_leftovers_of_the_dead_go_with_the_next_save_and_those_of_the_living_stay(folder):
    save(folder, 1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for prefix in (".tmp-", ".trash-"):
        shutil.copytree(folder.path_of(1), folder.root / f"{prefix}{process.pid}-0123abcd-a")
    (folder.root / f".tmp-{process.pid}-0123abcd-latest").touch()
    living = [f".tmp-{os.getppid()}-0123abcd-b", f".trash-{os.getppid()}-0123abcd-b"]
    for name in living:
        (folder.root / name).mkdir()
    save(folder, 2)
    assert names(folder) == [*living, "latest", "step-00000001", "step-00000002"]


def test_leftovers_make_room_before_the_new_checkpoint_is_written(folder, monkeypatch):
    save(folder, 1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (folder.root / f".tmp-{process.pid}-0123abcd-step-00000002").mkdir()

    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError):
        save(folder, 2)
    assert names(folder) == ["latest", "step-00000001"]


def test_a_checkpoint_parked_by_a_kill_is_found_until_another_stands(folder, monkeypatch):
    save(folder, 1)
    parked = folder.root / f".trash-{os.getpid()}-0123abcd-step-00000001"
    folder.path_of(1).rename(parked)
    assert folder.latest() == parked

    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StorageError):
            save(folder, 1)
    assert load_checkpoint(folder.latest()).config == {"step": 1}
    save(folder, 1, second=True)
    assert folder.latest() == folder.path_of(1)
    assert names(folder) == ["latest", "step-00000001"]


# These tests kill the process that writes.


class Worker:
    def __init__(self, folder, log):
        self.target, self.log = f"{folder.root} {log}", log
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crash_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        )

    def start(self, order, *numbers):
        self.process.stdin.write(" ".join([order, self.target, *map(str, numbers)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def outcome(self):
        return self.process.stdout.readline().strip()

    def steps(self, word):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(word)]


@pytest.fixture
def worker(folder, tmp_path):
    worker = Worker(folder, tmp_path / "log")
    yield worker
    worker.process.stdin.close()
    worker.process.wait(timeout=60)
    worker.process.stdout.close()


def loaded_step(folder):
    checkpoint = load_checkpoint(folder.latest(), training=True)
    step = checkpoint.metadata["step"]
    assert checkpoint.training_state["step"] == step
    assert checkpoint.weights["w"].unique().tolist() == [step]
    assert checkpoint.training_state["momentum"].unique().tolist() == [step]
    return step


def test_latest_survives_kills_at_random_moments(folder, worker):
    dice = random.Random(0)
    for _ in range(10):
        done_before = len(worker.steps("done"))
        pid = worker.start("loop")
        while len(worker.steps("done")) < done_before + 2:
            time.sleep(0.002)
        time.sleep(dice.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        assert worker.outcome() == "killed"
        begun, done = worker.steps("begin")[-1], worker.steps("done")[-1]
        assert done <= loaded_step(folder) <= begun <= done + 1
    save(folder, begun + 1)
    assert not [name for name in names(folder) if name.startswith(".")]


def test_latest_survives_a_kill_before_every_single_change(folder, worker):
    kills = 0
    while True:
        worker.start("script", kills + 1)
        outcome = worker.outcome()
        if outcome != "killed":
            break
        kills += 1
        if worker.steps("done"):
            begun, done = worker.steps("begin")[-1], worker.steps("done")[-1]
            assert loaded_step(folder) in {begun, done}, kills
        elif folder.latest() is not None:
            assert loaded_step(folder) == 1
        save(folder, 9)
        assert not [name for name in names(folder) if name.startswith(".")]
        shutil.rmtree(folder.root)
        worker.log.unlink()
    assert outcome == "exit 0"
    assert kills > 40
