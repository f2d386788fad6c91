"""The cache of compiled code is never stale, and a command works without it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bit_transformer.native import digest, functions, store

PACKAGE = Path(store.__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "folders", lambda: [tmp_path / "code"])
    return tmp_path / "code"


def test_what_was_kept_is_found_under_its_name_and_key(folder):
    assert store.load("step", b"key") is None
    assert store.keep("step", b"key", b"machine code")
    assert store.load("step", b"key") == b"machine code"
    assert store.load("step", b"other key") is None
    assert store.load("other", b"key") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: b"",
        lambda c: c[:10],
        lambda c: c[:-1],
        lambda c: c[:-1] + b"!",
        lambda c: c + b"!",
    ],
)
def test_a_damaged_file_counts_as_missing(folder, damage):
    store.keep("step", b"key", b"machine code")
    (file,) = folder.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert store.load("step", b"key") is None


def test_the_next_folder_is_taken_where_one_cannot_be_written(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    monkeypatch.setattr(store, "folders", lambda: [blocked / "code", tmp_path / "second"])
    assert store.keep("step", b"key", b"machine code")
    assert store.load("step", b"key") == b"machine code"
    monkeypatch.setattr(store, "folders", lambda: [blocked / "code"])
    assert not store.keep("step", b"key", b"machine code")
    assert store.load("step", b"key") is None


def test_a_full_disk_leaves_nothing_half_written(folder, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert not store.keep("step", b"key", b"machine code")
    assert list(folder.iterdir()) == []


def test_old_versions_are_removed(folder):
    for number in range(40):
        store.keep("step", b"%d" % number, b"machine code")
        os.utime(max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns), (number, number))
    assert len(list(folder.iterdir())) <= 13


SCALE, TABLE = 3, np.arange(4)


@functions.callee
def _called(value):
    return value * SCALE


def _caller(value):
    return _called(value) + TABLE[1]


def _digest():
    return digest.digest_of(functions.compiled(_caller))


def test_a_change_to_anything_that_is_compiled_changes_the_digest(monkeypatch):
    before = _digest()
    assert _digest() == before

    @functions.callee
    def changed(value):
        return value + SCALE

    for name, value in (("_called", changed), ("SCALE", 4), ("TABLE", np.arange(5))):
        with monkeypatch.context() as patch:
            patch.setitem(globals(), name, value)
            assert _digest() != before, name
    assert _digest() == before


def test_a_digest_is_the_same_in_every_process():
    """The options of fast arithmetic are a set, and its order depends on the hash seed."""
    program = (
        "from bit_transformer.native.digest import digest_of\n"
        "from bit_transformer.native.functions import reassociated\n"
        "def close(word):\n"
        "    return word in {'near', 'far', 'here', 'there', 'nowhere'}\n"
        "print(digest_of(reassociated(close)).hex())\n"
    )
    command = [sys.executable, "-c", program]
    found = {
        subprocess.check_output(command, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_a_reference_whose_changes_cannot_be_detected_is_refused(monkeypatch):
    monkeypatch.setitem(globals(), "SCALE", object())
    with pytest.raises(TypeError, match="whose changes cannot be detected"):
        _digest()


@pytest.fixture
def compress(tmp_path):
    """Return a function that runs `compress` from a copy of the package without compiled code.

    A file blocks the folder for compiled code in that copy.
    """
    copy = tmp_path / "bit_transformer"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "__pycache__").write_bytes(b"")

    def run(**environment):
        own = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/dev/null"}
        inherited = {k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}
        return subprocess.run(
            [sys.executable, "-m", "bit_transformer", "compress", "-c", "-"],
            input=b"to be or not to be",
            capture_output=True,
            env=inherited | own | environment,
            cwd=tmp_path,
            check=False,
        )

    return run


@pytest.mark.slow
def test_a_first_command_says_what_it_waits_for_and_the_second_does_not(compress, tmp_path):
    first = compress(NUMBA_CACHE_DIR=str(tmp_path / "code"))
    second = compress(NUMBA_CACHE_DIR=str(tmp_path / "code"))
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert first.stderr.count(b"Compiling for this processor") == 1
    assert b"Compiling" not in second.stderr


@pytest.mark.slow
def test_without_any_folder_to_write_a_command_works_and_says_so_once(compress):
    done = compress(NUMBA_CACHE_DIR="/dev/null/code")
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr.count(b"kept in memory only") == 1


@pytest.mark.slow
def test_damaged_code_is_compiled_again(compress, tmp_path):
    folder = tmp_path / "code"
    whole = compress(NUMBA_CACHE_DIR=str(folder))
    for number, file in enumerate(sorted(folder.rglob("*.native"))):
        content = file.read_bytes()
        file.write_bytes((b"", content[: len(content) // 2], b"x" * len(content))[number % 3])
    again = compress(NUMBA_CACHE_DIR=str(folder))
    assert again.returncode == 0, again.stderr
    assert again.stdout == whole.stdout
