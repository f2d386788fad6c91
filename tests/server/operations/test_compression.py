"""Compression of uploaded files as jobs."""

import pytest

from bit_transformer.compression.container import Header
from bit_transformer.errors import ConflictError, ContainerError, TooLargeError, UnknownNameError
from bit_transformer.server.jobs.log import JobLog, last_progress
from bit_transformer.server.jobs.work import Stopped, Work
from bit_transformer.server.operations import OPERATIONS, compression
from tests.server.conftest import TEXT


@pytest.fixture
def work(engine, tmp_path):
    found = Work(engine.workspace, JobLog(tmp_path / "told.jsonl"))
    yield found
    found.log.close()


def _do(engine, work, name, **fields):
    operation = OPERATIONS[name]
    prepared = operation.prepare(engine, operation.request.model_validate(fields))
    return operation.run(work, operation.stored_request(prepared.request.model_dump(mode="json")))


def _without_codec(monkeypatch):
    """Replace the codec by a copy of the input, with two progress reports."""

    def copy(source, sink, *, progress, **_):
        content = source.read()
        sink.write(content)
        for _ in range(2):
            progress(len(content) // 2)
        return len(content)

    monkeypatch.setattr(compression, "decompress_stream", copy)


def test_files_come_back_and_say_how_far_they_are(engine, work, tmp_path):
    coded = _do(engine, work, "compress", file="text", out="text.btz")
    assert coded.raw_bytes == len(TEXT)
    assert coded.coded_bytes == (engine.workspace.files / "text.btz").stat().st_size
    assert last_progress(tmp_path / "told.jsonl")["unit"] == "bytes"
    _do(engine, work, "decompress", file="text.btz", out="again")
    assert (engine.workspace.files / "again").read_bytes() == TEXT
    with pytest.raises(ContainerError):
        _do(engine, work, "decompress", file="text", out="never")
    assert not (engine.workspace.files / "never").exists()


@pytest.mark.slow
def test_a_model_takes_part(engine, work):
    _do(engine, work, "compress", file="text", out="text.btz", run="one")
    _do(engine, work, "decompress", file="text.btz", out="again", run="one")
    assert (engine.workspace.files / "again").read_bytes() == TEXT


def test_a_bomb_is_stopped_at_the_limit(engine, work, monkeypatch):
    _without_codec(monkeypatch)
    fields = {"file": "text", "out": "bomb", "most_bytes": len(TEXT) - 1}
    order = compression.StoredDecompressRequest(**fields)
    with pytest.raises(TooLargeError, match="more than 12,299 bytes"):
        compression.decompress.run(work, order)
    assert [path.name for path in engine.workspace.files.iterdir()] == ["text"]


def test_a_file_that_claims_too_much_is_not_filled_up_with_zeros(engine, work):
    claims = Header(4, 4, 1 << 40).to_bytes()
    (engine.workspace.files / "claims").write_bytes(claims)
    order = compression.StoredDecompressRequest(
        file="claims", out="x", recover=True, most_bytes=1000
    )
    with pytest.raises(ContainerError, match="at most 1,000 may be written"):
        compression.decompress.run(work, order)
    assert not (engine.workspace.files / "x").exists()


def test_a_job_that_should_end_leaves_nothing(engine, work, monkeypatch):
    _without_codec(monkeypatch)
    work.stop.set()
    with pytest.raises(Stopped):
        _do(engine, work, "decompress", file="text", out="half")
    assert [path.name for path in engine.workspace.files.iterdir()] == ["text"]


def test_names_are_checked_before_there_is_a_job(engine, work):
    with pytest.raises(UnknownNameError, match="there is no file 'none'"):
        _do(engine, work, "compress", file="none", out="x")
    with pytest.raises(ConflictError, match="exists already"):
        _do(engine, work, "compress", file="text", out="text")
    with pytest.raises(UnknownNameError, match="there is no run 'none'"):
        _do(engine, work, "compress", file="text", out="x", run="none")
