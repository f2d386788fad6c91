"""An upload and a download return the same files, whatever fails on the way."""

import errno
import hashlib
import json
import logging
import os
import subprocess
import sys

import pytest
import torch

from bit_transformer import BitTransformerLM, SafetyGate
from bit_transformer.checkpoint.format import load_checkpoint, read_manifest, save_checkpoint
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.errors import (
    CheckpointCorruptError,
    CheckpointNotFoundError,
    ConfigError,
    HubAccessError,
    HubError,
    HubNotFoundError,
    HubUnreachableError,
    MissingExtraError,
    StorageError,
)
from bit_transformer.hub import client, pull, push, transfer, who_am_i
from bit_transformer.network_spec import spec_of
from tests.hub.fake_hub import GOOD_TOKEN, READ_TOKEN

BAD_TOKEN = "hf_bad_and_secret_0000000000000000000"


def _same(one: BitTransformerLM, other: BitTransformerLM) -> bool:
    theirs = other.network.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.network.state_dict().items())


def test_a_checkpoint_comes_back_through_lfs_byte_for_byte(hub, folder, model, tmp_path):
    pushed = push(folder, "user/net")
    assert (pushed.repository, pushed.files) == ("user/net", len(hub.tree("user/net")))
    assert pushed.bytes == sum(map(len, hub.tree("user/net").values()))
    weights = (folder / "model.safetensors").read_bytes()
    assert hub.blobs[hashlib.sha256(weights).hexdigest()] == weights
    out = pull("user/net", tmp_path / "out")
    assert (out / "model.safetensors").read_bytes() == weights
    assert read_manifest(out) == read_manifest(folder)
    assert _same(BitTransformerLM.from_pretrained(out), model)


def test_a_new_repository_is_private_unless_told_otherwise(hub, folder):
    push(folder, "user/net")
    push(folder, "user/open", private=False)
    assert hub.repositories["user/net"].private
    assert not hub.repositories["user/open"].private


def test_a_model_is_loaded_by_its_id_and_brought_up_to_date(hub, model, folder, tmp_path):
    push(folder, "user/net")
    assert _same(BitTransformerLM.from_pretrained("user/net"), model)
    assert _same(BitTransformerLM.from_pretrained("hf://user/net"), model)
    sent = dict(hub.sent)
    assert _same(BitTransformerLM.from_pretrained("user/net"), model)
    assert hub.sent == sent, "what is in the cache is not sent again"
    first = hub.repositories["user/net"].name_of(1)
    with torch.no_grad():
        model.network.embedding.nodes.add_(1)
    push(model.save_pretrained(tmp_path / "newer"), "user/net")
    assert _same(BitTransformerLM.from_pretrained("user/net"), model)
    assert not _same(BitTransformerLM.from_pretrained(f"user/net@{first}"), model)
    assert SafetyGate.from_pretrained("user/net") is None


def test_a_process_that_has_not_imported_the_hub_asks_it(tmp_path):
    code = "from bit_transformer import BitTransformerLM as M; M.from_pretrained('user/net')"
    own = {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment = {**os.environ, "HF_HOME": str(tmp_path), **own}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE)
    assert "there is no folder user/net here, and user/net: http://127.0.0.1:9" in done.stderr


def test_a_local_folder_of_that_name_comes_first(hub, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained(tmp_path / "user" / "net")
    assert _same(BitTransformerLM.from_pretrained("user/net"), model)
    assert hub.requests == []


def test_training_state_is_uploaded_on_request_and_removed_by_the_next_push(hub, tmp_path):
    state = {"x": torch.arange(5), "n": 3}
    weights = {"w": torch.ones(3)}
    config = spec_of(BitTransformerLM().network).to_dict()
    save_checkpoint(
        tmp_path / "c",
        weights=weights,
        config=config,
        training_state=state,
        objective="other",
    )
    push(tmp_path / "c", "user/net", training=True)
    whole = load_checkpoint(pull("user/net", tmp_path / "whole"), training=True)
    assert torch.equal(whole.training_state["x"], state["x"])
    light = pull("user/net", tmp_path / "light", training=False)
    assert load_checkpoint(light, training=True).training_state is None
    assert load_checkpoint(light).objective == "other"
    assert "training.safetensors" in hub.tree("user/net")
    push(tmp_path / "c", "user/net")
    assert "training.safetensors" not in hub.tree("user/net")
    again = load_checkpoint(pull("user/net", tmp_path / "again"), training=True)
    assert again.training_state is None
    assert again.objective == "other"


def test_foreign_files_in_a_repository_stay(hub, folder):
    push(folder, "user/net")
    hub.tree("user/net")["notes.txt"] = b"mine"
    push(folder, "user/net")
    assert hub.tree("user/net")["notes.txt"] == b"mine"


def test_pulling_over_something_is_refused(hub, folder, tmp_path):
    push(folder, "user/net")
    with pytest.raises(StorageError, match="it exists; choose another name"):
        pull("user/net", folder)


def test_progress_ends_at_the_total(hub, folder, tmp_path):
    up, down = [], []
    pushed = push(folder, "user/net", progress=lambda *told: up.append(told))
    pull("user/net", tmp_path / "out", progress=lambda *told: down.append(told))
    for told in (up, down):
        assert told[-1][:2] == (pushed.bytes, pushed.bytes)
        assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_an_interrupted_download_continues_where_it_stopped(hub, folder, model, tmp_path):
    push(folder, "user/net")
    size = len(hub.tree("user/net")["model.safetensors"])
    hub.cut["model.safetensors"] = size // 2
    assert _same(BitTransformerLM.from_pretrained(pull("user/net", tmp_path / "o")), model)
    ranges = [asked for method, path, asked in hub.requests if asked and "model.safet" in path]
    (resumed,) = ranges
    begin = int(resumed.removeprefix("bytes=").removesuffix("-"))
    assert size // 2 - (1 << 12) < begin <= size // 2
    assert hub.sent["model.safetensors"] == size // 2 + size - begin


def test_the_next_download_continues_a_killed_one(hub, folder, tmp_path):
    push(folder, "user/net")
    size = len(hub.tree("user/net")["model.safetensors"])

    class Killed(BaseException):
        pass

    def kill(done, total, name):
        if name == "model.safetensors" and done:
            raise Killed

    hub.cut["model.safetensors"] = size // 2
    with pytest.raises(Killed):
        pull("user/net", tmp_path / "out", progress=kill)
    assert not (tmp_path / "out").exists()
    pull("user/net", tmp_path / "out")
    assert hub.sent["model.safetensors"] < 2 * size


def test_after_an_interrupted_upload_only_missing_files_are_sent(hub, folder):
    hub.failures = [("/commit/", 503, 100)]
    with pytest.raises(HubUnreachableError):
        push(folder, "user/net")
    assert hub.tree("user/net") == {}, "a commit holds all files or does not exist"
    received = hub.received
    hub.failures = []
    push(folder, "user/net")
    assert hub.received - received < 10_000 < received, "weights were there already"


def test_temporary_failures_are_retried(hub, folder, tmp_path):
    hub.failures = [("/api/models", 503, 2), ("/lfs/", 500, 2), ("/resolve/", 502, 2)]
    push(folder, "user/net")
    assert pull("user/net", tmp_path / "out").exists()


def test_the_number_of_attempts_is_bounded(hub, folder, monkeypatch):
    waited = []
    monkeypatch.setattr(client, "WAITS", (1.0, 2.0, 4.0))
    monkeypatch.setattr("time.sleep", waited.append)
    hub.failures = [("/api/models", 503, 10**6)]
    with pytest.raises(HubUnreachableError, match=r"does not answer.*try again later"):
        pull("user/net", folder.parent / "out")
    assert waited == [1.0, 2.0, 4.0]
    assert len(hub.requests) == 4


def test_the_time_of_attempts_is_bounded(hub, folder, monkeypatch):
    monkeypatch.setattr(client, "MAX_TRY_SECONDS", -1.0)
    hub.failures = [("/api/models", 503, 10**6)]
    with pytest.raises(HubUnreachableError):
        pull("user/net", folder.parent / "out")
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (403, HubAccessError, r"refused the token \(403\); use one that has this right"),
        (413, HubError, "answered 413"),
        (429, HubUnreachableError, "try again later"),
    ],
)
def test_every_answer_has_its_error(hub, folder, status, kind, told):
    hub.failures = [("/commit/", status, 10**6)]
    with pytest.raises(kind, match=told) as caught:
        push(folder, "user/net")
    assert type(caught.value) is kind


def test_a_full_disk_is_a_storage_error(hub, folder, tmp_path, monkeypatch):
    push(folder, "user/net")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "blob"))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(StorageError, match="blob: No space left on device; free some space"):
        pull("user/net", tmp_path / "out")


def test_an_unreachable_hub_is_named(away, folder):
    with pytest.raises(HubUnreachableError, match=r"http://127.0.0.1:9 does not answer"):
        push(folder, "user/net", token=GOOD_TOKEN)
    with pytest.raises(
        HubUnreachableError, match=r"there is no folder user/net here, and user/net"
    ):
        BitTransformerLM.from_pretrained("user/net")


def test_without_the_hub_an_earlier_copy_is_used(hub, folder, model, monkeypatch):
    push(folder, "user/net")
    BitTransformerLM.from_pretrained("user/net")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert _same(BitTransformerLM.from_pretrained("user/net"), model)
    with pytest.raises(HubUnreachableError):
        pull("user/net", folder.parent / "out")


@pytest.mark.parametrize("token", [None, GOOD_TOKEN])
def test_a_missing_repository_is_named(hub, tmp_path, monkeypatch, token):
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubNotFoundError, match=r"no repository user/none .*check the name"):
        pull("user/none", tmp_path / "out")
    with pytest.raises(CheckpointNotFoundError, match="there is no folder user/none here, and"):
        BitTransformerLM.from_pretrained("user/none")


def test_a_repository_without_a_checkpoint_and_a_missing_revision(hub, folder, tmp_path):
    push(folder, "user/net")
    with pytest.raises(HubNotFoundError, match="no such revision"):
        pull("user/net@v2", tmp_path / "out")
    hub.tree("user/net").pop("model.safetensors")
    with pytest.raises(HubNotFoundError, match="holds no checkpoint of this project"):
        pull("user/net", tmp_path / "out")


@pytest.mark.parametrize("name", ["net", "a/b/c", "../x", "/abs/path", "user/", "a/b..c", "ü/x"])
def test_a_malformed_name_is_refused_before_any_request(hub, folder, name):
    with pytest.raises(ConfigError, match="a repository is called user/name"):
        push(folder, name)
    assert hub.requests == []


def test_damage_in_transit_is_detected(hub, folder, tmp_path):
    push(folder, "user/net")
    weights = hub.tree("user/net")["model.safetensors"]
    hub.tree("user/net")["model.safetensors"] = weights[:-1] + b"\x7f"
    with pytest.raises(Exception, match="has changed since it was written"):
        BitTransformerLM.from_pretrained("user/net")


def test_the_order_in_which_tokens_are_found(hub, folder, tmp_path, monkeypatch):
    assert who_am_i() == "user"
    monkeypatch.setenv("HF_TOKEN", BAD_TOKEN)
    with pytest.raises(HubAccessError):
        who_am_i()
    assert who_am_i(GOOD_TOKEN) == "user"
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubAccessError, match="set HF_TOKEN, or pass a token"):
        push(folder, "user/net")
    (tmp_path / "token").write_text(GOOD_TOKEN)
    assert who_am_i() == "user"


def _every_text(error: BaseException | None) -> str:
    texts = ""
    while error is not None:
        texts += f"{error!r} {error} {getattr(error, 'args', ())}"
        error = error.__cause__ or error.__context__
    return texts


@pytest.mark.parametrize("token", [BAD_TOKEN, READ_TOKEN, f"{BAD_TOKEN}\nx", f"{BAD_TOKEN} ü"])
@pytest.mark.parametrize(
    "act",
    [
        lambda folder, token: push(folder, "user/net", token=token),
        lambda folder, token: pull("user/none", folder.parent / "out", token=token),
        lambda folder, token: transfer.resumable_step("user/none", token=token) or who_am_i("x"),
    ],
)
def test_a_refused_token_is_shown_nowhere(hub, folder, tmp_path, caplog, capfd, act, token):
    caplog.set_level(logging.DEBUG)
    with pytest.raises((HubError, ConfigError)) as caught:
        act(folder, token)
    secret = token.split()[0]
    assert secret not in _every_text(caught.value)
    assert secret not in caplog.text
    assert secret not in "".join(capfd.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_used_token_is_left_nowhere(hub, folder, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    push(folder, "user/net", token=GOOD_TOKEN, training=True)
    out = pull("user/net", tmp_path / "out", token=GOOD_TOKEN)
    assert GOOD_TOKEN not in caplog.text + "".join(capfd.readouterr())
    assert GOOD_TOKEN not in repr(client.HubClient(GOOD_TOKEN))
    files = [path for path in (*tmp_path.rglob("*"), *out.rglob("*")) if path.is_file()]
    assert not [path for path in files if GOOD_TOKEN.encode() in path.read_bytes()]
    assert not any(GOOD_TOKEN.encode() in content for content in hub.tree("user/net").values())


def test_without_the_library_the_extra_is_named(away, folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bit-transformer\[hub\]'"):
        push(folder, "user/net")
    with pytest.raises(CheckpointNotFoundError, match="does not exist"):
        locate_checkpoint(folder.parent / "none")


def test_the_files_of_transformers_lie_beside_the_checkpoint(hub, folder):
    push(folder, "user/net")
    files = hub.tree("user/net")
    config = json.loads(files["config.json"])
    assert config["model_type"] == "bit_transformer"
    assert config["auto_map"]["AutoModelForCausalLM"].split(".")[0] + ".py" in files


def test_a_downloaded_manifest_cannot_name_other_files(hub, folder, tmp_path):
    push(folder, "user/net")
    manifest = json.loads(hub.tree("user/net")["manifest.json"])
    manifest["files"]["../../stolen"] = {"size": 1, "sha256": "0", "holds": "weights"}
    manifest["metadata"]["step"] = "../x"
    del manifest["sha256"]
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    content = json.dumps({**manifest, "sha256": seal}).encode()
    hub.tree("user/net").update({"manifest.json": content, "run/config.json": b"{}"})
    (tmp_path / "stolen").write_text("x")
    with pytest.raises(CheckpointCorruptError, match="is not a file of this folder"):
        pull("user/net", tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []
    assert (tmp_path / "stolen").read_text() == "x"


def test_folders_of_a_killed_push_are_removed(hub, folder):
    dead = folder.parent / ".tmp-999999999-00000000-push"
    dead.mkdir()
    other = folder.parent / ".tmp-999999999-00000000-else"
    other.mkdir()
    push(folder, "user/net")
    assert not dead.exists()
    assert other.exists()
    assert not [path for path in folder.parent.glob(".tmp-*") if path != other]


def test_a_foreign_config_nearby_is_not_taken_for_a_run(hub, model, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    push(model.save_pretrained(tmp_path / "models" / "m"), "user/net")
    assert "run/config.json" not in hub.tree("user/net")


def test_the_token_is_masked_in_an_error_of_the_library(hub, monkeypatch):
    def leak(*_, **__):
        raise ValueError(f"Illegal header value Bearer {GOOD_TOKEN}")

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", leak)
    with pytest.raises(HubError, match=r"Bearer \*\*\*") as caught:
        who_am_i()
    assert GOOD_TOKEN not in _every_text(caught.value)
