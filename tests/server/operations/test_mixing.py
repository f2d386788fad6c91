"""Tests of requests that mix a model with a context mixer, and of the job that warms one."""

import base64
import os

import numpy as np
import pytest
from pydantic import ValidationError

from bit_transformer.compression.mixer_file import load_mixer
from bit_transformer.errors import ConfigError, MixerFileError, TooLargeError, UnknownNameError
from bit_transformer.lm import BitTransformerLM
from bit_transformer.server.jobs.log import JobLog, last_progress
from bit_transformer.server.jobs.work import Stopped, Work
from bit_transformer.server.mixing import MixerStore
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.operations.perform import perform
from bit_transformer.server.settings import Limits
from tests.server.conftest import TEXT, serving, wait_for

_DATA = TEXT[:1200].decode()


def _ask(engine, name, **fields):
    operation = OPERATIONS[name]
    return perform(engine, operation, operation.request.model_validate(fields))


@pytest.fixture
def work(engine, tmp_path):
    log = JobLog(tmp_path / "told.jsonl")
    yield Work(engine.workspace, log)
    log.close()


def _warm(engine, work, **fields):
    fields = {"run": "one", "files": ["text"], "table_bits": 12} | fields
    request = OPERATIONS["warm"].request.model_validate(fields)
    OPERATIONS["warm"].prepare(engine, request)
    return OPERATIONS["warm"].run(work, request)


@pytest.mark.parametrize("part", ["head", "memory"])
def test_a_part_of_the_model_learns_while_it_reads(engine, part):
    found = _ask(engine, "score", text=_DATA, surprisals=True, adapt=part)
    assert found.adaptive_bits_per_byte < found.bits_per_byte
    assert found.adaptive_bits_per_byte == pytest.approx(np.mean(found.adaptive_surprisals))
    with pytest.raises(ValidationError, match="adapt and mix are two ways"):
        _ask(engine, "score", text=_DATA, adapt=part, mix=True)


def test_a_score_has_a_static_and_an_adaptive_figure(engine):
    plain = _ask(engine, "score", text=_DATA, surprisals=True)
    mix = _ask(engine, "score", text=_DATA, surprisals=True, mix=True)
    given = _ask(engine, "score", text=_DATA, given=_DATA)
    assert (plain.adaptive_bits_per_byte, plain.adaptive_surprisals) == (None, None)
    assert mix.bits_per_byte == pytest.approx(plain.bits_per_byte)
    np.testing.assert_allclose(mix.surprisals, plain.surprisals, rtol=1e-4, atol=1e-4)
    mean = float(np.mean(mix.adaptive_surprisals))
    assert mix.adaptive_bits_per_byte == pytest.approx(mean, rel=1e-5)
    assert given.adaptive_bits_per_byte < mix.adaptive_bits_per_byte < mix.bits_per_byte
    assert given.adaptive_surprisals is None


def test_samples_with_a_mixer_are_those_of_the_library(engine):
    fields = {"prompt": "to be", "new_bytes": 30, "seed": 3, "sampling": {"temperature": 3}}
    given = base64.b64encode(TEXT[:500]).decode()
    three = _ask(engine, "infer", **fields, given_base64=given, samples=3)
    alone = _ask(engine, "infer", **fields, given=TEXT[:500].decode())
    plain = _ask(engine, "infer", **fields)
    assert alone.samples == three.samples[:1]
    assert (three.mix, plain.mix) == (True, False)
    assert alone.base64 != plain.base64
    generate = OPERATIONS["generate"]
    for fields, figures in (({}, "static"), ({"mix": True}, "adaptive")):
        request = generate.request.model_validate({"new_bytes": 5} | fields)
        assert [part.figures for part in generate.run(engine, request)] == [figures] * 5


def test_the_gate_judges_what_is_drawn_with_a_mixer(engine):
    from bit_transformer.safety.gate import SafetyGate

    if SafetyGate.from_pretrained(engine.workspace.root / "one") is None:
        with pytest.raises(ConfigError, match="no calibrated gate"):
            _ask(engine, "infer", gate=True, mix=True)
    else:
        assert _ask(engine, "infer", gate=True, mix=True, queue=False).passed is not None


def test_a_warmed_mixer_is_used_and_a_newer_one_replaces_it(engine, work):
    cold = _ask(engine, "score", text=_DATA, mix=True)
    found = _warm(engine, work)
    path = engine.workspace.root / "one" / "mixer.safetensors"
    assert found.learned_bytes == found.remembered_bytes == len(TEXT)
    assert (found.file_bytes, found.table_bits) == (path.stat().st_size, 12)
    assert found.contexts == "text"
    warm = _ask(engine, "score", text=_DATA, mix=True)
    assert warm.adaptive_bits_per_byte < 0.5 * cold.adaptive_bits_per_byte
    assert warm.bits_per_byte == pytest.approx(cold.bits_per_byte)
    # Requests do not teach the saved mixer anything.
    again = _ask(engine, "score", text=_DATA, mix=True)
    assert again.adaptive_bits_per_byte == warm.adaptive_bits_per_byte
    more = _warm(engine, work, append=True, table_bits=None)
    assert more.remembered_bytes == 2 * len(TEXT)
    (engine.workspace.files / "noise").write_bytes(np.random.default_rng(0).bytes(3000))
    assert _warm(engine, work, files=["noise"]).contexts == "binary"
    forgotten = _ask(engine, "score", text=_DATA, mix=True)
    assert forgotten.adaptive_bits_per_byte > 2 * warm.adaptive_bits_per_byte
    assert last_progress(work.log._path)["done"] == 3000


def test_a_mixer_is_loaded_once_and_within_the_limits(engine, work):
    _warm(engine, work)
    run = engine.workspace.run("one")
    store = MixerStore(Limits(models=1))
    first = store.saved(run)
    assert store.saved(run) is first
    path = run.path / "mixer.safetensors"
    os.utime(path, ns=(0, 0))
    assert store.saved(run) is not first
    with pytest.raises(ConfigError, match=r"at most 1,000 bytes \(--mixer-bytes\), got"):
        MixerStore(Limits(mixer_bytes=1000)).saved(run)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(MixerFileError, match=r"mixer\.safetensors has changed"):
        _ask(engine, "score", text=_DATA, mix=True)
    assert _ask(engine, "score", text=_DATA).bits_per_byte


def test_what_cannot_be_warmed_is_refused_at_once(engine, work):
    (engine.workspace.files / "empty").touch()
    for fields, error, message in [
        ({"run": "two"}, UnknownNameError, "there is no run 'two'"),
        ({"files": ["gone"]}, UnknownNameError, "gone"),
        ({"files": ["empty"]}, ConfigError, "at least 1 byte, got 0"),
        ({"table_bits": 24}, TooLargeError, "smaller table_bits or less data"),
        ({"files": []}, ValidationError, "at least 1 item"),
        ({"table_bits": 9}, ValidationError, "greater than or equal to 10"),
    ]:
        with pytest.raises(error, match=message):
            _warm(engine, work, **fields)
    for fields in ({"given": "a", "given_base64": "YQ=="}, {"given_base64": "!"}):
        with pytest.raises(ValidationError, match=r"choose one|not base64"):
            OPERATIONS["infer"].request.model_validate(fields)
    work.stop.set()
    with pytest.raises(Stopped):
        _warm(engine, work)
    assert not (engine.workspace.root / "one" / "mixer.safetensors").exists()


def test_patches_that_cross_bytes_are_refused_by_name(engine):
    BitTransformerLM(
        d_model=16, nhead=2, num_layers=1, dim_feedforward=32, max_seq_len=510, patch_size=3
    ).save_pretrained(engine.workspace.root / "odd")
    with pytest.raises(Exception, match="patches of 3 bits cross bytes"):
        _ask(engine, "infer", run="odd", mix=True, new_bytes=3)


def test_a_job_of_a_server_warms_a_mixer(runs):
    with serving(runs, Limits()) as served:
        status, _, job = served.ask("POST", "/warm", {"run": "one", "files": ["text"]})
        assert status == 202
        wait_for(lambda: served.ask("GET", f"/jobs/{job['id']}")[2]["state"] == "done")
        assert load_mixer(runs / "one" / "mixer.safetensors").bits_read == 8 * len(TEXT)
        status, _, found = served.ask("POST", "/score", {"text": _DATA, "mix": True})
        assert (status, found["adaptive_bits_per_byte"] < 1) == (200, True)
