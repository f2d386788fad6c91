import errno
import hashlib
import json
import os
import resource
import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as serialize_tensors

from bit_transformer.checkpoint.format import (
    MANIFEST,
    MODEL,
    TRAINING,
    is_complete,
    load_checkpoint,
    read_manifest,
    save_checkpoint,
    verify,
)
from bit_transformer.errors import (
    CheckpointCorruptError,
    StorageError,
)

FILES = (MODEL, TRAINING, MANIFEST)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_what_is_loaded(tmp_path, sample):
    folder = sample.write(tmp_path / "deep" / "one")
    checkpoint = load_checkpoint(folder, training=True)
    sample.check(checkpoint)
    assert checkpoint.path == folder
    assert names(folder) == sorted(FILES)
    assert names(folder.parent) == ["one"]


def test_the_training_state_is_read_only_when_asked_for(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    (folder / TRAINING).unlink()
    assert load_checkpoint(folder).training_state is None
    with pytest.raises(CheckpointCorruptError, match=rf"{TRAINING} cannot be read \(No such file"):
        load_checkpoint(folder, training=True)


def test_an_export_has_no_training_file(tmp_path, sample):
    folder = tmp_path / "export"
    save_checkpoint(folder, weights=sample.weights(), config={})
    assert names(folder) == [MANIFEST, MODEL]
    assert load_checkpoint(folder, training=True).training_state is None
    assert load_checkpoint(folder).metadata == {}


def test_an_empty_training_state_is_still_one(tmp_path):
    save_checkpoint(tmp_path / "one", weights={}, config={}, training_state={})
    assert load_checkpoint(tmp_path / "one", training=True).training_state == {}


def test_tied_sliced_and_transposed_weights_are_saved_by_value(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    weights = {"a": base, "tied": base, "slice": base[1:, ::2], "turned": base.T}
    save_checkpoint(tmp_path / "one", weights=weights, config={})
    loaded = load_checkpoint(tmp_path / "one").weights
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_weights_go_to_the_device_asked_for(tmp_path, sample):
    checkpoint = load_checkpoint(sample.write(tmp_path / "one"), training=True, device="meta")
    assert {tensor.device.type for tensor in checkpoint.weights.values()} == {"meta"}
    assert checkpoint.training_state["optimizer"]["state"][0]["step"].device.type == "cpu"


# These tests fix the format byte for byte.


def test_the_golden_checkpoint_loads(sample):
    sample.check(load_checkpoint(sample.golden, training=True))


def test_the_golden_checkpoint_is_what_is_written_today(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    for name in FILES:
        assert (folder / name).read_bytes() == (sample.golden / name).read_bytes(), name


def test_the_manifest_says_just_this(sample):
    manifest = json.loads((sample.golden / MANIFEST).read_text(encoding="utf-8"))
    assert manifest.pop("files") == {
        name: {
            "size": (sample.golden / name).stat().st_size,
            "sha256": hashlib.sha256((sample.golden / name).read_bytes()).hexdigest(),
            "holds": holds,
        }
        for name, holds in ((MODEL, "weights"), (TRAINING, "training"))
    }
    seal = manifest.pop("sha256")
    assert len(seal) == 64
    assert manifest == {
        "format": "bit-transformer checkpoint",
        "version": 2,
        "config": sample.config,
        "objective": "causal",
        "metadata": sample.metadata,
        "training": {
            "dict": [
                [
                    "optimizer",
                    {
                        "dict": [
                            ["state", {"dict": [[0, {"dict": [["step", {"tensor": "0"}]]}]]}],
                            ["betas", {"tuple": [0.9, 0.95]}],
                        ]
                    },
                ],
                ["loader", {"dict": [["position", 12]]}],
                ["best", {"float": "inf"}],
                ["flags", {"list": [True, None]}],
            ]
        },
    }


class _Shards:
    """Writes two files with weights, and a file with training state for each."""

    def write(self, folder, weights, training):
        entries = {}
        for rank in range(2):
            mine = dict(list(weights.items())[rank::2])
            state = dict(list(training.items())[rank::2])
            for holds, tensors in (("weights", mine), ("training", state)):
                content = serialize_tensors(tensors)
                (folder / f"{holds}-{rank}").write_bytes(content)
                digest = hashlib.sha256(content).hexdigest()
                entries[f"{holds}-{rank}"] = {
                    "size": len(content),
                    "sha256": digest,
                    "holds": holds,
                }
        return entries


def test_a_manifest_lists_any_number_of_files(tmp_path, sample):
    folder = tmp_path / "one"
    state = sample.training_state()
    save_checkpoint(
        folder,
        weights=sample.weights(),
        config=sample.config,
        training_state=state,
        metadata=sample.metadata,
        writer=_Shards(),
    )
    sample.check(load_checkpoint(folder, training=True))
    verify(folder, training=True)
    assert is_complete(folder)
    (folder / "weights-1").write_bytes(b"x" * (folder / "weights-1").stat().st_size)
    with pytest.raises(CheckpointCorruptError, match="weights-1 has changed"):
        load_checkpoint(folder)
    (folder / "training-0").unlink()
    assert not is_complete(folder)


def test_other_programs_can_read_the_weights(sample):
    with safe_open(sample.golden / MODEL, framework="np") as file:
        assert sorted(file.keys()) == ["head.weight", "norm"]
        assert file.get_tensor("head.weight").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_white_space_of_the_manifest_does_not_count(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_bytes(json.dumps(manifest, indent=1).replace("\n", "\r\n").encode())
    sample.check(load_checkpoint(folder, training=True))


def test_the_manifest_is_read_without_the_weights(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    (folder / MODEL).unlink()
    assert read_manifest(folder)["config"] == sample.config


def test_forty_megabytes_are_saved_and_loaded_as_fast_as_they_are_hashed_forty_times(tmp_path):
    weights = {str(i): torch.full((1024, 1024), float(i)) for i in range(10)}
    started = time.process_time()
    hashlib.sha256(bytes(40 * 2**20))
    once = time.process_time() - started
    started = time.process_time()
    save_checkpoint(tmp_path / "one", weights=weights, config={})
    load_checkpoint(tmp_path / "one")
    assert time.process_time() - started < 40 * once


# These tests write checkpoints.


def test_a_folder_that_exists_is_not_touched(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    with pytest.raises(StorageError, match=rf"cannot write {folder}: it exists"):
        save_checkpoint(folder, weights={}, config={})
    sample.check(load_checkpoint(folder, training=True))
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(StorageError, match="it exists"):
        save_checkpoint(tmp_path / "file", weights={}, config={}, replace=True)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_folder_is_replaced_on_request(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    save_checkpoint(folder, weights={}, config={"new": True}, replace=True)
    assert load_checkpoint(folder).config == {"new": True}
    assert names(folder) == [MANIFEST, MODEL]
    assert names(tmp_path) == ["one"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"training_state": {"a": object()}},
        {"metadata": {"a": Path("x")}},
        {"weights": {"w": torch.eye(2).to_sparse()}},
    ],
)
def test_what_cannot_be_saved_leaves_nothing(tmp_path, wrong):
    with pytest.raises(TypeError, match=r"state\['a'\]|Path|cannot save w:"):
        save_checkpoint(tmp_path / "one", **({"weights": {}, "config": {}} | wrong))
    assert names(tmp_path) == []


def refuse_after(monkeypatch, calls, error):
    """Let this many calls that change the disk succeed, and fail the next. Return the counter."""
    left = [calls]

    def guard(original):
        def guarded(*arguments, **options):
            left[0] -= 1
            if left[0] == -1:
                raise error
            return original(*arguments, **options)

        return guarded

    for name in ("mkdir", "fsync", "rename", "replace"):
        monkeypatch.setattr(os, name, guard(getattr(os, name)))
    return left


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_at_any_call_leaves_the_old_or_the_whole_new(
    tmp_path, sample, monkeypatch, replace, error
):
    for calls in range(20):
        folder = tmp_path / str(calls) / "one"
        folder.parent.mkdir()
        if replace:
            sample.write(folder)
        with monkeypatch.context() as patch:
            left = refuse_after(patch, calls, error)
            expected = StorageError if isinstance(error, OSError) else KeyboardInterrupt
            with suppress(expected):
                save_checkpoint(folder, weights={}, config={"new": 1}, replace=replace)
        assert names(folder.parent) == (["one"] if folder.exists() else [])
        if folder.exists():
            assert load_checkpoint(folder).config in ([sample.config] if replace else []) + [
                {"new": 1}
            ]
        else:
            assert not replace
        if left[0] >= 0:
            break
    assert calls > 4, "the failures were not injected"
    assert load_checkpoint(folder).config == {"new": 1}


def test_a_disk_that_takes_no_more_bytes_is_a_storage_error(tmp_path, sample):
    folder = tmp_path / "one"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError) as caught:
            save_checkpoint(folder, weights={"w": torch.zeros(10_000)}, config={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == (
        f"cannot write {folder}: File too large; the file system or `ulimit -f` allows no larger "
        "file: choose another folder, or raise the limit"
    )
    assert names(tmp_path) == []


def test_everything_is_on_disk_before_the_folder_takes_its_name(tmp_path, sample, monkeypatch):
    synced, renamed = [], []
    rename, fsync = os.rename, os.fsync

    def note_fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def note_rename(source, target):
        rename(source, target)
        renamed.extend((str(source), len(synced)))

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    sample.write(tmp_path / "one")
    partial, before = renamed
    assert synced[:before] == [*(f"{partial}/{name}" for name in FILES), partial]
    assert synced[before:] == [str(tmp_path)]


def test_a_checkpoint_can_be_moved(tmp_path, sample):
    shutil.move(sample.write(tmp_path / "one"), tmp_path / "two")
    sample.check(load_checkpoint(tmp_path / "two", training=True))
