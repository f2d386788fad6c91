import errno
import os

import pytest

from bit_transformer.data.spool import spool_atomically
from bit_transformer.errors import SourceError, StorageError


def test_chunks_become_one_file_and_leave_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.bin"
    assert spool_atomically(path, [b"one", b"", b"two"]) == 6
    assert path.read_bytes() == b"onetwo"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def interrupted(error):
    yield b"half"
    raise error


@pytest.mark.parametrize("error", [SourceError("gone"), KeyboardInterrupt()])
def test_an_interruption_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        spool_atomically(path, interrupted(error))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_no_bytes_keep_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    assert spool_atomically(path, []) == 0
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_full_disk_is_a_storage_error(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device; free some space"):
        spool_atomically(path, [b"new"])
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        spool_atomically(tmp_path / "file" / "below", [b"new"])
