import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bit_transformer.errors
from bit_transformer.data import huggingface
from bit_transformer.data.huggingface import HubSource, parse_hub_source, spool_hub_source
from bit_transformer.data.sources import resolve_sources
from bit_transformer.errors import ConfigError, MissingExtraError, SourceError


class FakeDatasets:
    """A fake `load_dataset` that records its calls."""

    def __init__(self, rows):
        self.rows = rows
        self.calls = []

    def __call__(self, name, config, *, split, streaming):
        self.calls.append((name, config, split, streaming))
        for row in self.rows:
            if isinstance(row, Exception):
                raise row
            yield row


@pytest.fixture
def fake(monkeypatch):
    def install(*rows):
        datasets = FakeDatasets(rows)
        monkeypatch.setattr(huggingface, "_import_load_dataset", lambda: datasets)
        return datasets

    return install


def test_a_full_spec_and_its_defaults():
    spec = "hf://owner/name?config=en&split=validation&column=body&bytes=123"
    assert parse_hub_source(spec) == HubSource("owner/name", "en", "validation", "body", 123)
    assert parse_hub_source("hf://Owner/Name") == HubSource("Owner/Name")
    assert parse_hub_source("hf://single") == HubSource("single")
    assert parse_hub_source("hf:///abs/pa%20th/") == HubSource("/abs/pa th")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf://", "names no data set"),
        ("hf://?split=train", "names no data set"),
        ("hf://a/b?bytes=0", "at least 1, got '0'"),
        ("hf://a/b?bytes=1e6", "whole number of at least 1, got '1e6'"),
        ("hf://a/b?colum=text", "config, split, column, bytes at most once"),
        ("hf://a/b?split=a&split=b", "at most once"),
        ("hf://a/b?column=", "with a value"),
    ],
)
def test_a_malformed_spec_is_refused(spec, message):
    with pytest.raises(ConfigError, match=message):
        parse_hub_source(spec)


def test_rows_are_joined_by_newlines_and_nulls_left_out(fake, tmp_path):
    datasets = fake({"text": "é"}, {"text": None}, {"text": ""}, {"text": "last"})
    path = spool_hub_source("hf://a/b?config=en&split=test", tmp_path)
    assert path.read_bytes() == "é\n\nlast".encode()
    assert datasets.calls == [("a/b", "en", "test", True)]


@pytest.mark.parametrize("limit", range(1, 9))
def test_the_limit_is_exact_and_stops_the_stream(fake, tmp_path, limit):
    fake({"text": "abc"}, {"text": "def"}, {"text": "ghi"}, SourceError("read too far"))
    path = spool_hub_source(f"hf://a/b?bytes={limit}", tmp_path)
    assert path.read_bytes() == b"abc\ndef\nghi"[:limit]


def test_the_same_source_is_fetched_once_and_another_is_not_mistaken_for_it(fake, tmp_path):
    datasets = fake({"text": "abc", "other": "xyz"})
    first = spool_hub_source("hf://a/b", tmp_path)
    assert spool_hub_source("hf://a/b?split=train", tmp_path) == first
    assert len(datasets.calls) == 1
    second = spool_hub_source("hf://a/b?column=other", tmp_path)
    assert second.read_bytes() == b"xyz"
    assert first.read_bytes() == b"abc"
    assert len(datasets.calls) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"ab"),
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_text(json.dumps({"source": {}, "bytes": 3})),
    ],
)
def test_a_damaged_spool_is_fetched_again(fake, tmp_path, damage):
    datasets = fake({"text": "abc"})
    path = spool_hub_source("hf://a/b", tmp_path)
    damage(path)
    assert spool_hub_source("hf://a/b", tmp_path).read_bytes() == b"abc"
    assert len(datasets.calls) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no text"),
        ([{"text": None}], "holds no text"),
        ([{"body": "x", "about": "y"}], "no such column; choose one of about, body"),
        ([{"text": 7}], "holds int, not text"),
        ([ValueError("Unknown split\n  'x'.")], "ValueError: Unknown split 'x'.; check name"),
        ([{"text": "abc"}, ConnectionError("reset")], "ConnectionError: reset"),
    ],
)
def test_what_cannot_be_read_is_a_source_error_and_leaves_nothing(fake, tmp_path, rows, message):
    fake(*rows)
    with pytest.raises(SourceError, match=message) as caught:
        spool_hub_source("hf://a/b", tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bit-transformer\[data\]'"):
        spool_hub_source("hf://a/b", tmp_path)


REAL = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
from bit_transformer.data.sources import resolve_sources
from bit_transformer.errors import SourceError

def outcome(spec):
    try:
        return resolve_sources([spec], spool=Path(sys.argv[2]))[0].read_bytes().decode()
    except SourceError as error:
        return str(error)

for options in ("", "?bytes=10", "?column=n", "?column=no", "?split=no", "/missing"):
    print(ascii(outcome(f"hf://{sys.argv[1]}{options}")))
"""


def test_the_real_library_on_a_local_folder(tmp_path):
    """The test uses another process, because the library reads its cache folder only at import."""
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [{"text": f"row é {n}", "n": n} for n in range(3)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run(
        [sys.executable, "-c", REAL, folder, tmp_path / "spool"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(Path(bit_transformer.errors.__file__).parents[1]),
        },
    )
    assert done.returncode == 0, done.stderr
    whole, cut, number, column, split, missing = done.stdout.splitlines()
    assert whole == ascii("row é 0\nrow é 1\nrow é 2")
    assert cut == ascii("row é 0\nr")
    assert "holds int, not text" in number
    assert "no such column; choose one of n, text" in column
    assert "ValueError: Bad split: no" in split
    assert "FileNotFoundError" in missing


def test_sources_hand_hf_specs_over(fake, tmp_path):
    fake({"text": "abc"})
    other = tmp_path / "other.txt"
    other.write_bytes(b"x")
    found = resolve_sources(["hf://a/b", str(other)], spool=tmp_path / "spool")
    assert [path.read_bytes() for path in found] == [b"abc", b"x"]
