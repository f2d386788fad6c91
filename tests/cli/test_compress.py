"""The commands `compress` and `decompress`."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bit_transformer import BitTransformerLM, atomic
from bit_transformer.cli.main import main

# A shell starts background jobs with SIGINT ignored, and child processes inherit that.
_INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from bit_transformer.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
TEXT = b"".join(b"row %d has %d\n" % (n, n * n) for n in range(300))


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "rows.txt"
    path.write_bytes(TEXT)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    settings = {"d_model": 16, "nhead": 2, "num_layers": 1, "dim_feedforward": 16}
    folder = tmp_path_factory.mktemp("models") / "one"
    return BitTransformerLM(**settings, max_seq_len=256).save_pretrained(folder)


def test_a_file_comes_back_and_the_input_stays(file, capsys):
    assert main(["compress", str(file)]) == 0
    packed = file.with_name("rows.txt.btz")
    assert "bits per byte" in capsys.readouterr().err
    assert file.read_bytes() == TEXT
    assert len(packed.read_bytes()) < 0.4 * len(TEXT)
    file.unlink()
    assert main(["decompress", str(packed)]) == 0
    assert file.read_bytes() == TEXT
    assert packed.exists()


def test_a_model_takes_part_and_is_needed_again(file, model, tmp_path, capsys):
    file.write_bytes(TEXT[:400])
    packed, out = tmp_path / "packed", tmp_path / "out"
    assert main(["compress", str(model), str(file), "--out", str(packed), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["coded_bytes"] == packed.stat().st_size
    assert main(["decompress", str(packed), "--out", str(out)]) == 1
    assert "give the run it was compressed with" in capsys.readouterr().err
    assert not out.exists()
    assert main(["decompress", str(model), str(packed), "--out", str(out), "--threads", "2"]) == 0
    assert out.read_bytes() == TEXT[:400]


def test_pipes_carry_both_ways(monkeypatch, capsysbinary):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT)))
    assert main(["compress", "-"]) == 0
    packed = capsysbinary.readouterr().out
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(packed)))
    assert main(["decompress", "-"]) == 0
    assert capsysbinary.readouterr().out == TEXT


def test_a_file_given_beforehand_is_needed_again(file, tmp_path, capsys):
    before = tmp_path / "before"
    before.write_bytes(TEXT)
    assert main(["compress", str(file), "--given", str(before)]) == 0
    assert file.with_name("rows.txt.btz").stat().st_size < 0.1 * len(TEXT)
    assert main(["decompress", str(file) + ".btz", "--force"]) == 1
    assert "--given" in capsys.readouterr().err
    assert main(["decompress", str(file) + ".btz", "--force", "--given", str(before)]) == 0


def test_nothing_is_replaced_unless_forced(file, capsys):
    packed = file.with_name("rows.txt.btz")
    packed.write_bytes(b"mine")
    assert main(["compress", str(file)]) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert packed.read_bytes() == b"mine"
    assert main(["compress", str(file), "--out", str(file), "--force"]) == 2
    assert file.read_bytes() == TEXT
    assert main(["compress", str(file), "--force"]) == 0
    assert packed.read_bytes() != b"mine"


def test_damage_is_named_and_what_can_be_saved_is(file, tmp_path, capsys):
    small = ["--block-bytes", "1000", "--segment-bytes", "500"]
    assert main(["compress", str(file), *small]) == 0
    packed, out = file.with_name("rows.txt.btz"), tmp_path / "out"
    blob = bytearray(packed.read_bytes())
    blob[len(blob) // 3] ^= 64
    packed.write_bytes(blob)
    assert main(["decompress", str(packed), "--out", str(out)]) == 1
    assert "--recover" in capsys.readouterr().err
    assert not out.exists()
    assert main(["decompress", str(packed), "--out", str(out), "--recover"]) == 1
    told = capsys.readouterr().err
    assert "are missing and replaced by zeros" in told
    assert "bytes are recovered in" in told
    found = out.read_bytes()
    same = sum(a == b for a, b in zip(found, TEXT, strict=True))
    assert len(TEXT) - 1000 <= same < len(TEXT)


def test_a_whole_file_recovers_whole(file, tmp_path, capsys):
    assert main(["compress", str(file)]) == 0
    words = ["decompress", str(file) + ".btz", "--recover", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "nothing is missing" in capsys.readouterr().err
    assert (tmp_path / "out").read_bytes() == TEXT


def test_a_listing_shows_the_blocks(file, capsys):
    assert main(["compress", str(file), "--block-bytes", "1000", "--segment-bytes", "999"]) == 0
    assert main(["decompress", str(file) + ".btz", "--list"]) == 0
    shown = capsys.readouterr().out
    assert f"{len(TEXT):,} bytes, needs no model" in shown
    assert "1,000" in shown
    assert main(["decompress", str(file) + ".btz", "--list", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    (member,) = listing["members"]
    assert sum(block["raw_bytes"] for block in member["blocks"]) == len(TEXT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compress", "absent"], "cannot read absent: it does not exist"),
        (["compress", "."], "it is a folder; pack it with tar first"),
        (["compress", "./runs/typo"], "cannot read ./runs/typo: it does not exist"),
        (["compress", "plain", "plain", "--out", "x"], "--out names one file, got 2 inputs"),
        (["compress", "plain", "-c", "-o", "x"], "both say where to write"),
        (["compress", "plain", "-M", "much"], "a number like 512MiB"),
        (["compress", "plain", "-M", "64KiB"], "needs 34 MiB of memory, the limit is 1 MiB"),
        (["compress", "plain", "-T", "-1"], "threads must be 0"),
        (["decompress", "plain"], "does not end in .btz"),
        (["decompress", "plain", "--out", "out"], "not a BitTransformer container"),
        (["compress", "plain", "--out", "-", "--json"], "name a file with --out"),
        (["compress", "plain", "--out", "no/such/folder"], "cannot write"),
        (["compress", "plain", "--given", "absent"], "cannot read absent"),
    ],
)
def test_bad_input_gets_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("plain").write_bytes(TEXT)
    assert main(words) in (1, 2)
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def test_a_full_disk_leaves_nothing_behind(file, monkeypatch, capsys):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    assert main(["compress", str(file)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list(file.parent.iterdir()) == [file]


def test_an_interruption_leaves_nothing_behind(tmp_path):
    """The test sends a real signal to a process that compresses a large file."""
    file = tmp_path / "large"
    file.write_bytes(os.urandom(8_000_000))
    words = [sys.executable, "-c", _INTERRUPTIBLE, "compress", str(file)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".tmp-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    with process.stderr:
        # Python drops an interrupt that arrives while numba loads machine code, so repeat it.
        while process.poll() is None and time.monotonic() < deadline:
            if list(tmp_path.glob(".tmp-*")):
                process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        # A second interrupt may arrive while Python exits.
        assert process.returncode in (130, -signal.SIGINT)
    assert list(tmp_path.iterdir()) == [file]
