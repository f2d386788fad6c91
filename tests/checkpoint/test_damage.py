import hashlib
import json
import os
import pickle
import random

import pytest
from safetensors.torch import save as serialize_tensors

from bit_transformer.checkpoint.format import (
    MANIFEST,
    MODEL,
    TRAINING,
    is_complete,
    load_checkpoint,
    read_manifest,
)
from bit_transformer.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointVersionError,
)

FILES = (MODEL, TRAINING, MANIFEST)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_noticed(tmp_path, sample, name):
    folder = sample.write(tmp_path / "one")
    whole = (folder / name).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (folder / name).write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(folder, training=True)
        assert isinstance(caught.value, CheckpointCorruptError | CheckpointVersionError)
    (folder / name).write_bytes(whole)
    sample.check(load_checkpoint(folder, training=True))


@pytest.mark.parametrize("name", FILES)
def test_every_overwritten_byte_is_noticed(tmp_path, sample, name):
    folder = sample.write(tmp_path / "one")
    whole = (folder / name).read_bytes()
    dice = random.Random(0)
    for position in dice.sample(range(len(whole)), min(200, len(whole))):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        (folder / name).write_bytes(damaged)
        with pytest.raises(CheckpointCorruptError):
            load_checkpoint(folder, training=True)


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_noticed(tmp_path, sample, name):
    folder = sample.write(tmp_path / "one")
    whole = (folder / name).read_bytes()
    # The last byte of the manifest is a line feed, which carries no information.
    for size in range(len(whole) - (name == MANIFEST)):
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(CheckpointCorruptError, match=name):
            load_checkpoint(folder, training=True)
        assert not is_complete(folder)


def test_the_message_names_the_file_and_what_differs(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    whole = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(whole + b"!")
    with pytest.raises(CheckpointCorruptError) as caught:
        load_checkpoint(folder)
    assert str(caught.value) == (
        f"{folder / MODEL} has {len(whole) + 1} bytes, {len(whole)} were written; "
        "use another checkpoint of the run"
    )
    (folder / MODEL).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(
        CheckpointCorruptError, match=rf"{MODEL} has changed .* \(its SHA-256 differs\)"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("missing", ["folder", "manifest", "file"])
def test_no_checkpoint_is_not_found(tmp_path, sample, missing):
    folder = tmp_path / "one"
    if missing == "manifest":
        (sample.write(folder) / MANIFEST).unlink()
    if missing == "file":
        folder.write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError, match=rf"{folder} is not a checkpoint.*name a run"):
        load_checkpoint(folder)
    assert not is_complete(folder)


def test_a_missing_weight_file_is_corrupt(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    (folder / MODEL).unlink()
    with pytest.raises(CheckpointCorruptError, match=rf"{MODEL} cannot be read \(No such file"):
        load_checkpoint(folder)
    assert not is_complete(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"format": "other"}', b"[" * 200_000, b"9" * 5000],
    ids=["empty", "half", "binary", "list", "null", "other", "deep", "long"],
)
def test_a_manifest_that_is_none_is_corrupt(tmp_path, sample, content):
    folder = sample.write(tmp_path / "one")
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointCorruptError, match=MANIFEST):
        read_manifest(folder)


_ENTRY = {"size": 1, "sha256": "", "holds": "weights"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": None}, "has no 'config'"),
        ({"metadata": []}, "has no 'metadata'"),
        ({"files": 1}, "has no 'files'"),
        ({"files": {}}, f"has no complete entry for {MODEL}"),
        ({"files": {MODEL: _ENTRY}}, f"has no complete entry for {TRAINING}"),
        ({"files": {MODEL: {"size": 1}}}, f"has no complete entry for {MODEL}"),
        ({"files": {MODEL: 5}}, f"has no complete entry for {MODEL}"),
        ({"files": {MODEL: _ENTRY, "../x": _ENTRY}}, "'../x', which is not a file of this folder"),
    ],
)
def test_a_manifest_of_another_make_is_corrupt(tmp_path, sample, changes, message):
    folder = sample.write(tmp_path / "one")
    sample.reseal(folder, **changes)
    with pytest.raises(CheckpointCorruptError, match=message):
        read_manifest(folder)


def test_a_manifest_without_a_training_state_has_none(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del manifest["training"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    sample.reseal(folder)
    assert load_checkpoint(folder, training=True).training_state is None


def test_a_newer_checkpoint_says_so(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    sample.reseal(folder, version=3)
    for read in (load_checkpoint, is_complete):
        with pytest.raises(CheckpointVersionError, match=r"version 3, .* upgrade bit-transformer"):
            read(folder)


def test_a_newer_version_may_be_sealed_in_another_way(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    manifest = (folder / MANIFEST).read_text(encoding="utf-8")
    (folder / MANIFEST).write_text(manifest.replace('"version": 2', '"version": 3'))
    with pytest.raises(CheckpointVersionError, match="version 3"):
        load_checkpoint(folder)


class Trap:
    def __reduce__(self):
        return os._exit, (99,)


def test_a_pickle_is_refused_even_when_the_manifest_vouches_for_it(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    for name in (MODEL, TRAINING):
        content = pickle.dumps(Trap())
        (folder / name).write_bytes(content)
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        digest = hashlib.sha256(content).hexdigest()
        files[name] |= {"size": len(content), "sha256": digest}
        sample.reseal(folder, files=files)
        with pytest.raises(CheckpointCorruptError, match=rf"{name} is not a safetensors file"):
            load_checkpoint(folder, training=True)


def test_a_training_file_without_a_tensor_is_corrupt(tmp_path, sample):
    folder = sample.write(tmp_path / "one")
    content = serialize_tensors({})
    (folder / TRAINING).write_bytes(content)
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    digest = hashlib.sha256(content).hexdigest()
    files[TRAINING] |= {"size": len(content), "sha256": digest}
    sample.reseal(folder, files=files)
    with pytest.raises(CheckpointCorruptError, match="cannot be restored"):
        load_checkpoint(folder, training=True)
