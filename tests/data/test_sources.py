import io
import os
import sys
from pathlib import Path

import pytest

from bit_transformer.data.sources import resolve_sources, standard_library_files
from bit_transformer.errors import SourceError


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    seen = ("b/two.txt", "b/one.txt", "a.txt", "z/deep/er.bin")
    for name in (*seen, ".hidden/x", "b/.secret", "z/__pycache__/er.pyc"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (root / "empty.txt").write_bytes(b"")
    return root


@pytest.fixture
def resolve(tmp_path):
    def call(*specs, stdin=None):
        return resolve_sources([str(s) for s in specs], spool=tmp_path / "spool", stdin=stdin)

    return call


def names(paths, root):
    return [path.relative_to(root).as_posix() for path in paths]


def test_a_folder_is_walked_in_order_without_hidden_and_empty_files(resolve, tree):
    assert names(resolve(tree), tree) == ["a.txt", "b/one.txt", "b/two.txt", "z/deep/er.bin"]


def test_globs_files_and_folders_in_the_order_named_each_file_once(resolve, tree):
    assert names(resolve(tree / "**" / "*.txt"), tree) == ["a.txt", "b/one.txt", "b/two.txt"]
    found = resolve(tree / "z", tree / "b" / "two.txt", tree / "*.txt", tree)
    assert names(found, tree) == ["z/deep/er.bin", "b/two.txt", "a.txt", "b/one.txt"]
    (tree / "link.txt").symlink_to(tree / "a.txt")
    assert len(resolve(tree)) == 4


def test_a_file_whose_name_looks_like_a_glob(resolve, tree):
    odd = tree / "odd[1].txt"
    odd.write_bytes(b"x")
    assert resolve(odd) == [odd]


def test_a_file_whose_name_looks_like_a_user(resolve, tree, monkeypatch):
    monkeypatch.chdir(tree)
    (tree / "~nobody-of-this-name").write_bytes(b"x")
    assert resolve("~nobody-of-this-name") == [tree / "~nobody-of-this-name"]


def test_paths_survive_a_change_of_folder(resolve, tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert resolve("a.txt") == [tree / "a.txt"]
    assert resolve("b") == [tree / "b/one.txt", tree / "b/two.txt"]


def test_stdin_is_streamed_to_the_spool(resolve, tmp_path):
    data = os.urandom(3_000_000)
    assert resolve("-", stdin=io.BytesIO(data)) == [tmp_path / "spool" / "stdin.bin"]
    assert (tmp_path / "spool" / "stdin.bin").read_bytes() == data


def test_the_process_own_stdin_is_the_default(resolve, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    assert resolve("-")[0].read_bytes() == b"piped"


def test_empty_or_missing_stdin_is_refused_and_keeps_the_old_spool(resolve, tmp_path, monkeypatch):
    resolve("-", stdin=io.BytesIO(b"old"))
    with pytest.raises(SourceError, match="standard input is empty"):
        resolve("-", stdin=io.BytesIO())
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="no standard input"):
        resolve("-")
    assert (tmp_path / "spool" / "stdin.bin").read_bytes() == b"old"


class BrokenPipe(io.RawIOBase):
    def read(self, _count=-1):
        raise OSError(5, "Input/output error")


def test_a_stdin_that_breaks_is_a_source_error(resolve):
    with pytest.raises(SourceError, match="cannot read standard input"):
        resolve("-", stdin=BrokenPipe())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere.txt", "does not exist"),
        ("*.nothing", "glob .* holds no file with data"),
        ("empty.txt", "is empty"),
        (".hidden/none/*", "holds no file"),
        ("x" * 5000, "cannot read|does not exist"),
    ],
)
def test_a_source_without_data_is_refused(resolve, tree, spec, message):
    with pytest.raises(SourceError, match=message) as caught:
        resolve(tree / spec)
    assert "\n" not in str(caught.value)


def test_folders_with_nothing_to_read_are_refused(resolve, tmp_path):
    (tmp_path / "void").mkdir()
    with pytest.raises(SourceError, match=r"folder .*void holds no file with data"):
        resolve(tmp_path / "void")
    (tmp_path / "void" / "empty").write_bytes(b"")
    with pytest.raises(SourceError, match="holds no file with data"):
        resolve(tmp_path / "void")


def test_a_named_pipe_is_refused_without_waiting_for_it(resolve, tree):
    os.mkfifo(tree / "pipe")
    with pytest.raises(SourceError, match="not a regular file; pipe it in and name - instead"):
        resolve(tree / "pipe")
    assert tree / "pipe" not in resolve(tree)


def test_an_unreadable_file_or_folder_is_named(resolve, tree, monkeypatch):
    """open and scandir are replaced, because root may read every file."""
    real_open, real_scandir = Path.open, os.scandir

    def deny(path):
        if Path(path).name in {"one.txt", "z"}:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", lambda p, *a, **k: deny(p) or real_open(p, *a, **k))
    monkeypatch.setattr(os, "scandir", lambda p: deny(p) or real_scandir(p))
    for spec, name in ((tree / "b", "one.txt"), (tree / "b/one.txt", "one.txt"), (tree / "z", "z")):
        with pytest.raises(SourceError, match=f"cannot read .*{name}: Permission denied"):
            resolve(spec)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_permissions_are_respected(resolve, tree):
    (tree / "a.txt").chmod(0)
    with pytest.raises(SourceError, match=r"cannot read .*a\.txt: Permission denied"):
        resolve(tree)


def test_nothing_named_means_the_standard_library(resolve):
    files = resolve()
    assert files == standard_library_files()
    assert len(files) > 200
    parts = {part for path in files for part in path.parts[len(files[0].parent.parts) :]}
    assert not parts & {"site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
    assert {"json", "argparse.py", "asyncio"} <= parts
    assert all(path.suffix == ".py" and path.stat().st_size for path in files)
    assert sum(path.stat().st_size for path in files) > 5_000_000
