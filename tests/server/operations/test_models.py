"""Tests of models that are quantized, imported, kept in memory and shared."""

import base64
import json
import os
import pickle
import shutil
import threading
import zipfile

import pytest
import torch
from pydantic import ValidationError

from bit_transformer.bits.tensor import bits_of
from bit_transformer.checkpoint.locate import locate_checkpoint
from bit_transformer.compression.config import CodecConfig
from bit_transformer.errors import (
    CheckpointCorruptError,
    ConfigError,
    ConflictError,
    QueueFullError,
)
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.config import ModelConfig
from bit_transformer.quantization import quantized
from bit_transformer.server.jobs.log import JobLog
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.models import (
    ModelStore,
    check_model_size,
    weight_bytes,
    with_own_modules,
)
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.operations.perform import perform
from bit_transformer.server.settings import Limits
from bit_transformer.telemetry.probe import Probe
from tests.server.conftest import TINY


def _ask(engine, name, **fields):
    operation = OPERATIONS[name]
    return perform(engine, operation, operation.request.model_validate(fields))


def _upload(engine, name, path):
    shutil.copyfile(path, engine.workspace.files / name)


def test_a_model_is_made_smaller(engine, tmp_path):
    operation = OPERATIONS["quantize"]
    request = operation.request.model_validate({"run": "one", "out": "small", "file": "text"})
    operation.prepare(engine, request)
    work = Work(engine.workspace, JobLog(tmp_path / "told.jsonl"))
    found = operation.run(work, request)
    work.log.close()
    assert found.bytes_after < found.bytes_before
    assert found.bits_per_byte_after == pytest.approx(found.bits_per_byte_before, rel=0.02)
    assert [run.name for run in _ask(engine, "list_runs").runs] == ["one", "small"]
    assert _ask(engine, "model_config", run="small").model["quantization"] == "int8"
    assert _ask(engine, "infer", run="small", new_bytes=3).new_bytes == 3
    with pytest.raises(ConflictError, match="'small' is taken"):
        operation.prepare(engine, request)
    with pytest.raises(ConflictError, match="is a model without a training state"):
        _ask(engine, "train", run="small", resume=True)


def test_samples_stop_strings_and_limits_are_those_of_the_library(engine):
    settings = {"run": "one", "prompt": "to be", "new_bytes": 30, "seed": 3}
    three = _ask(engine, "infer", **settings, samples=3)
    alone = _ask(engine, "infer", **settings)
    assert alone.samples == three.samples[:1]
    assert (alone.base64, alone.ended) == (three.samples[0].base64, "length")
    content = base64.b64decode(alone.base64)
    stop = base64.b64encode(content[10:12]).decode()
    stopped = _ask(engine, "infer", **settings, stop_base64=[stop], stop=["never there"])
    assert base64.b64decode(stopped.base64) == content[: content.find(content[10:12])]
    assert stopped.ended == "stop"
    operation = OPERATIONS["generate"]
    request = operation.request.model_validate(settings | {"stop_base64": [stop]})
    assert len(list(operation.run(engine, request))) == content.find(content[10:12])
    wrong = [{"sampling": {"temperature": value}} for value in (-1, 1e9, float("inf"))]
    wrong += [{"sampling": {"top_k": 0}}, {"seed": -1}, {"seed": 2**63}, {"stop": [""]}]
    wrong += [{"samples": 65}, {"samples": 2, "gate": True}, {"samples": 64, "new_bytes": 4096}]
    for fields in wrong:
        with pytest.raises(ValidationError):
            OPERATIONS["infer"].request.model_validate(settings | fields)
    schema = OPERATIONS["infer"].request.model_json_schema()
    temperature = schema["$defs"]["SamplingConfig"]["properties"]["temperature"]
    assert (temperature["minimum"], temperature["maximum"]) == (0, 1000)


def test_an_uploaded_checkpoint_becomes_a_model(engine):
    folder = locate_checkpoint(engine.workspace.root / "one")
    _upload(engine, "w", folder / "model.safetensors")
    _upload(engine, "m", folder / "manifest.json")
    made = _ask(engine, "import_checkpoint", run="two", weights="w", manifest="m")
    assert made.summary.step == 12
    one, two = (_ask(engine, "score", run=run, text="to be") for run in ("one", "two"))
    assert one.bits_per_byte == two.bits_per_byte
    with pytest.raises(ConflictError):
        _ask(engine, "import_checkpoint", run="two", weights="w", manifest="m")


class _Exploit:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_pickles_archives_and_tampered_weights_are_refused(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = locate_checkpoint(engine.workspace.root / "one")
    manifest = json.loads((folder / "manifest.json").read_text())
    (tmp_path / "pickle").write_bytes(pickle.dumps(_Exploit()))
    with zipfile.ZipFile(tmp_path / "zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("data.pkl", b"\0" * (1 << 24))
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "tampered").write_bytes(content)
    (tmp_path / "header").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    _upload(engine, "m", folder / "manifest.json")
    for name in ("pickle", "zip", "tampered", "header"):
        _upload(engine, name, tmp_path / name)
        for stated in ({}, {"size": (tmp_path / name).stat().st_size}):
            entry = manifest["files"]["model.safetensors"] | stated
            forged = {**manifest, "files": {"model.safetensors": entry}}
            (engine.workspace.files / "forged").write_text(json.dumps(forged))
            for used in ("m", "forged"):
                with pytest.raises(CheckpointCorruptError):
                    _ask(engine, "import_checkpoint", run="two", weights=name, manifest=used)
    assert not (tmp_path / "executed").exists()
    assert not (engine.workspace.root / "two").exists()
    (engine.workspace.files / "huge").write_bytes(b" " * (17 << 20))
    with pytest.raises(ConfigError, match="a manifest must have at most"):
        _ask(engine, "import_checkpoint", run="two", weights="m", manifest="huge")


def test_too_large_a_model_is_refused_before_it_is_made(engine):
    huge = ModelConfig(d_model=32768, nhead=8, num_layers=200, dim_feedforward=65536)
    assert weight_bytes(ModelConfig(**TINY)) == sum(
        weight.nbytes
        for weight in (lambda n: (*n.parameters(), *n.buffers()))(
            ModelStore(Limits())._model(engine.workspace.run("one")).network
        )
    )
    with pytest.raises(ConfigError, match="at most 4,294,967,296 bytes"):
        check_model_size(huge, Limits())
    with pytest.raises(ConfigError, match="num_layers must be at most 1024"):
        check_model_size(ModelConfig(num_layers=10**6), Limits())
    with pytest.raises(ConfigError, match="max_seq_len must be at most"):
        check_model_size(ModelConfig(max_seq_len=1 << 40), Limits())


def test_models_are_kept_and_followed_to_their_newest_checkpoint(engine):
    store, run = ModelStore(Limits(models=1)), engine.workspace.run("one")
    with store.computing(run) as first, store.computing(run) as second:
        assert first is second
        assert not torch.is_grad_enabled()
    folder = locate_checkpoint(run.path)
    os.utime(folder / "manifest.json", (1, 1))
    with store.computing(run) as third:
        assert third is not first
    assert len(store._loaded) == 1


def _storage(model):
    return {name: tensor.data_ptr() for name, tensor in model.network.state_dict().items()}


@pytest.mark.parametrize("run", ["one", "small"])
def test_telemetry_hooks_stay_on_modules_of_their_own_and_weights_are_shared(engine, run):
    folder = engine.workspace.root / "one"
    if run == "small":
        quantized(BitTransformerLM.from_pretrained(folder), "int8").save_pretrained(
            engine.workspace.root / run
        )
    with engine.models.computing(engine.workspace.run(run)) as shared:
        own = with_own_modules(shared)
        assert _storage(own) == _storage(shared)
        assert not set(own.modules()) & set(shared.modules())
        bits = bits_of(b"to be or", parity=shared.config.parity)
        with Probe(own.network) as probe:
            expected = shared.log2_likelihood(bits)
            assert not probe.observed
            assert torch.equal(own.log2_likelihood(bits), expected)
            assert probe.observed


def test_settings_of_other_packages_are_not_changed_by_the_schemas():
    for settings in (SamplingConfig, CodecConfig):
        assert "__pydantic_config__" not in vars(settings)
    schemas = OPERATIONS["compress"].request.model_json_schema()["$defs"]
    assert schemas["CodecConfig"]["additionalProperties"] is False
    assert schemas["CodecConfig"]["properties"]["block_bytes"]["description"]


def test_who_gets_no_turn_in_time_is_told(engine):
    store = ModelStore(Limits(computing=1, wait_seconds=0.05))
    inside, done = threading.Event(), threading.Event()

    def compute():
        with store.compute_slot():
            inside.set()
            done.wait(60)

    thread = threading.Thread(target=compute)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(QueueFullError, match="1 requests compute already"), store.compute_slot():
        pass
    done.set()
    thread.join()
    with store.compute_slot():
        pass
