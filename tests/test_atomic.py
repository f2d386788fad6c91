import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bit_transformer import atomic
from bit_transformer.errors import StorageError


def test_content_is_written_and_nothing_else_is_left(tmp_path):
    atomic.atomic_write_bytes(tmp_path / "a.bin", b"\x00\xff")
    atomic.atomic_write_text(tmp_path / "a.txt", "grün\n")
    atomic.atomic_write_json(tmp_path / "a.json", {"é": [1, None]})
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a.txt").read_bytes() == b"gr\xc3\xbcn\n"
    assert json.loads((tmp_path / "a.json").read_text()) == {"é": [1, None]}
    assert (tmp_path / "a.json").read_text().endswith("\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.json", "a.txt"]


@pytest.mark.parametrize("name", [".", "/"])
def test_a_path_without_a_name_is_a_folder(name):
    with pytest.raises(StorageError, match=r"[Dd]irectory"):
        atomic.atomic_write_bytes(Path(name), b"x")


def test_the_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic.atomic_write_bytes(tmp_path / "atomic", b"")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_file_is_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    moments, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda _: moments.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda a, b: (moments.append("replace"), replace(a, b)))
    atomic.atomic_write_bytes(tmp_path / "a", b"")
    assert moments == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "choose a folder that you may write to"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EMFILE, "close other files"),
        (errno.EFBIG, "the file system or `ulimit -f`"),
        (errno.EIO, "the disk may be failing"),
    ],
)
def test_a_refusing_disk_keeps_the_old_file(tmp_path, monkeypatch, call, reason, remedy):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StorageError) as caught:
        atomic.atomic_write_bytes(path, b"new")
    assert f"cannot write {path}: {os.strerror(reason)}; {remedy}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic.atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file or directory"):
        atomic.atomic_write_bytes(tmp_path / "no" / "file", b"")


def test_an_error_without_a_reason_still_says_something(tmp_path):
    with pytest.raises(StorageError, match="odd failure"), atomic.storage_errors(tmp_path):
        raise OSError("odd failure")


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_are_those_of_dead_processes_and_our_own(tmp_path):
    dead, own, alive = dead_pid(), os.getpid(), os.getppid()
    ours = {f".tmp-{dead}-0123abcd-a", f".trash-{dead}-0123abcd-b", f".tmp-{own}-0123abcd-c"}
    others = {
        f".tmp-{alive}-0123abcd-d",
        f".tmp-{dead}-short-e",
        f"x.tmp-{dead}-0123abcd-f",
        f".tmp-{'9' * 30}-0123abcd-g",
        ".tmp-٣-0123abcd-h",
        ".hidden",
    }
    for name in ours | others:
        (tmp_path / name).touch()
    assert {path.name for path in atomic.leftovers(tmp_path)} == ours


def test_our_temporary_names_are_recognised(tmp_path):
    for prefix in (atomic.PARTIAL, atomic.TRASH):
        sibling = atomic.temporary_sibling(tmp_path / "file.json", prefix)
        sibling.touch()
        assert sibling.parent == tmp_path
        assert atomic.leftovers(tmp_path) == [sibling]
        sibling.unlink()


def test_a_process_of_another_user_is_alive(tmp_path, monkeypatch):
    def forbid(_pid, _signal):
        raise PermissionError

    (tmp_path / ".tmp-4194000-0123abcd-a").touch()
    monkeypatch.setattr(os, "kill", forbid)
    assert atomic.leftovers(tmp_path) == []


def test_trees_and_files_are_removed(tmp_path):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "missing"):
        atomic.remove_tree(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
