"""Permissions, times, links, devices, streams and names are treated as other compressors do."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bit_transformer import atomic
from bit_transformer.cli import codec_files
from bit_transformer.cli.codec_words import split_words
from bit_transformer.cli.main import main
from bit_transformer.errors import Interrupted, SourceError, StorageError, storage_error

TEXT = b"".join(b"row %d has %d\n" % (n, n * n) for n in range(300))
LONG_AGO = 981_173_106_123_456_789


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    previous = os.umask(0o022)
    yield tmp_path
    os.umask(previous)


def _rights(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("rights", [0o600, 0o640, 0o755])
def test_rights_and_times_go_there_and_back(here, rights):
    Path("s").write_bytes(TEXT)
    os.chmod("s", rights)
    os.utime("s", ns=(LONG_AGO, LONG_AGO))
    assert main(["compress", "s"]) == 0
    Path("s").unlink()
    assert main(["decompress", "s.btz"]) == 0
    for name in ("s", "s.btz"):
        assert _rights(name) == rights
        assert os.stat(name).st_mtime_ns == LONG_AGO
    assert main(["decompress", "s.btz", "--recover", "--force"]) == 0
    assert _rights("s") == rights


def test_a_private_file_is_private_while_it_is_written(here, monkeypatch):
    Path("s").write_bytes(TEXT)
    os.chmod("s", 0o600)
    seen, real = [], os.fsync

    def look(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    made, create = [], os.open

    def note(path, flags, mode=0o777, **more):
        if ".tmp-" in str(path):
            made.append(mode)
        return create(path, flags, mode, **more)

    monkeypatch.setattr(atomic.os, "fsync", look)
    monkeypatch.setattr(atomic.os, "open", note)
    assert main(["compress", "s"]) == 0
    assert made == [0o600]
    assert seen[0] == 0o600


def test_a_replaced_file_takes_the_rights_of_what_it_is_made_from(here):
    Path("s").write_bytes(TEXT)
    Path("s.btz").write_bytes(b"old")
    os.chmod("s.btz", 0o644)
    os.chmod("s", 0o600)
    assert main(["compress", "-f", "s"]) == 0
    assert _rights("s.btz") == 0o600


def test_what_replaces_a_page_or_picture_keeps_its_rights(here):
    Path("page").write_bytes(b"old")
    os.chmod("page", 0o600)
    os.utime("page", ns=(LONG_AGO, LONG_AGO))
    atomic.write_output(Path("page"), b"new")
    assert (Path("page").read_bytes(), _rights("page")) == (b"new", 0o600)
    assert os.stat("page").st_mtime_ns != LONG_AGO
    atomic.write_output(Path("fresh"), b"new")
    assert _rights("fresh") == 0o644


def test_a_group_that_cannot_be_kept_gets_no_more_than_everybody(here, monkeypatch):
    Path("s").write_bytes(TEXT)
    os.chmod("s", 0o664)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic.os, "fchown", refuse)
    assert main(["compress", "s"]) == 0
    assert _rights("s.btz") == 0o644


@pytest.mark.parametrize("dangling", [False, True])
def test_force_writes_through_a_symbolic_link(here, dangling, capsys):
    Path("s").write_bytes(TEXT)
    if not dangling:
        Path("target").write_bytes(b"old")
    Path("s.btz").symlink_to("target")
    assert main(["compress", "s"]) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert main(["compress", "s", "--force"]) == 0
    assert Path("s.btz").is_symlink()
    assert not Path("target").is_symlink()
    assert main(["decompress", "target", "-o", "again"]) == 0
    assert Path("again").read_bytes() == TEXT


def test_devices_are_written_into_and_stay(here, capsys):
    Path("s").write_bytes(TEXT)
    before = os.stat("/dev/null")
    assert main(["compress", "s", "-o", "/dev/null"]) == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert _rights("/dev/null") == stat.S_IMODE(before.st_mode)
    assert main(["compress", "s", "-o", "/dev/full"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith("No space left on device; free some space or choose another folder")
    assert main(["compress", "s"]) == 0
    assert main(["decompress", "s.btz", "--recover", "-o", "/dev/null"]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_fifos_are_read_and_written_into(here):
    os.mkfifo("in")
    os.mkfifo("out.btz")
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: Path("in").write_bytes(TEXT)),
        threading.Thread(target=lambda: found.append(Path("out.btz").read_bytes())),
    ]
    for thread in threads:
        thread.start()
    assert main(["compress", "in", "-o", "out.btz"]) == 0
    for thread in threads:
        thread.join()
    assert stat.S_ISFIFO(os.stat("out.btz").st_mode)
    Path("coded").write_bytes(found[0])
    assert main(["decompress", "coded", "-o", "again"]) == 0
    assert Path("again").read_bytes() == TEXT


def test_a_device_or_pipe_goes_to_standard_output(here, capsysbinary):
    read, write = os.pipe()
    os.write(write, TEXT)
    os.close(write)
    assert main(["compress", f"/dev/fd/{read}"]) == 0
    os.close(read)
    Path("coded").write_bytes(capsysbinary.readouterr().out)
    assert main(["decompress", "-c", "coded"]) == 0
    assert capsysbinary.readouterr().out == TEXT
    assert os.listdir() == ["coded"]


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="no such file here")
def test_a_file_that_says_it_is_empty_is_read_all_the_same(here, capsysbinary):
    assert main(["compress", "/proc/version", "-o", "v.btz"]) == 0
    assert b"changed" not in capsysbinary.readouterr().err
    assert main(["decompress", "v.btz"]) == 0
    assert Path("v").read_bytes() == Path("/proc/version").read_bytes()


def test_a_file_that_changes_while_it_is_read_gives_a_warning(here, monkeypatch, capsys):
    Path("s").write_bytes(TEXT)
    real = codec_files.Input.read

    def grows(self, size):
        if self.status is not None and os.path.getsize("s") == len(TEXT):
            with Path("s").open("ab") as file:
                file.write(b"more")
        return real(self, size)

    monkeypatch.setattr(codec_files.Input, "read", grows)
    assert main(["compress", "--rm", "s"]) == 0
    told = capsys.readouterr().err
    assert (
        f"s changed while it was read; the compressed file holds the {len(TEXT) + 4:,} bytes"
        in told
    )
    assert "s is kept" in told
    assert Path("s").exists()
    assert main(["decompress", "s.btz", "-o", "again"]) == 0
    assert Path("again").read_bytes() == TEXT + b"more"


@pytest.mark.parametrize(
    "name", ["-", "-x", "--out", "n" * 250, "é" * 125, " \n", "a.btz", "\udcff\udcfe", "-9"]
)
def test_any_name_is_a_name(here, name):
    Path(f"./{name}").write_bytes(TEXT)
    assert main(["compress", f"./{name}"]) == 0
    Path(f"./{name}").unlink()
    assert main(["decompress", f"./{name}.btz"]) == 0
    assert Path(f"./{name}").read_bytes() == TEXT
    assert len(os.listdir()) == 2


def test_a_name_that_leaves_no_room_for_the_suffix_is_told_so(here, capsys):
    Path("n" * 252).write_bytes(TEXT)
    assert main(["compress", "n" * 252]) == 1
    assert capsys.readouterr().err.endswith("File name too long; choose a shorter name\n")
    assert main(["compress", "n" * 252, "-o", "m" * 255]) == 0
    assert main(["decompress", "m" * 255, "-o", "k" * 255]) == 0
    assert Path("k" * 255).read_bytes() == TEXT


_NAMES = st.binary(min_size=1, max_size=240).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=_NAMES, content=st.binary(max_size=300), rights=st.sampled_from([0o600, 0o644, 0o440]))
def test_odd_names_and_bytes_come_back(here, name, content, rights):
    path = os.path.join(os.fsdecode(os.fsencode(here)), os.fsdecode(name))
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, rights)
    assert main(["compress", "-q", "--rm", "--", path]) == 0
    assert not os.path.lexists(path)
    assert main(["decompress", "-q", "--rm", "--", f"{path}.btz"]) == 0
    assert Path(path).read_bytes() == content
    assert _rights(path) == rights
    os.unlink(path)
    assert os.listdir(here) == []


def test_several_files_are_each_compressed_and_one_that_fails_stops_none(here, capsys):
    for name in ("a.txt", "b.txt"):
        Path(name).write_bytes(TEXT)
    assert main(["compress", "a.txt", "b.txt"]) == 0
    assert sorted(os.listdir()) == ["a.txt", "a.txt.btz", "b.txt", "b.txt.btz"]
    capsys.readouterr()
    assert main(["compress", "-f", "absent", "b.txt"]) == 1
    told = capsys.readouterr().err
    assert "cannot read absent: it does not exist" in told
    assert told.endswith("1 of 2 files failed, see above; the others are done\n")


def test_options_are_those_of_other_compressors(here, capsysbinary):
    Path("s").write_bytes(TEXT)
    assert main(["compress", "-kf9", "s", "-v"]) == 0
    assert b"level 9, blocks of 268,435,456 bytes" in capsysbinary.readouterr().err
    assert main(["compress", "-tq", "s.btz"]) == 0
    assert capsysbinary.readouterr() == (b"", b"")
    assert main(["compress", "-dc", "s.btz"]) == 0
    assert capsysbinary.readouterr().out == TEXT
    for words in (["decompress", "-vf", "s.btz"], ["decompress", "-vt", "s.btz"]):
        assert main(words) == 0
        assert capsysbinary.readouterr().err.endswith(b" s\n")
    assert main(["compress", "-l", "s.btz"]) == 0
    assert b"s.btz: " in capsysbinary.readouterr().out
    assert main(["compress", "-c1qT0", "s", "s"]) == 0
    both = capsysbinary.readouterr()
    assert both.err == b""
    Path("both").write_bytes(both.out)
    assert main(["decompress", "-c", "both"]) == 0
    assert capsysbinary.readouterr().out == TEXT + TEXT
    assert main(["compress", "-f", "--rm", "s"]) == 0
    assert not Path("s").exists()
    assert main(["decompress", "--rm", "-k", "s.btz"]) == 0
    assert Path("s.btz").exists()


@pytest.mark.parametrize(
    ("words", "options", "names"),
    [
        (["-dc", "x"], ["-d", "-c"], ["x"]),
        (["x", "-kf", "y"], ["-k", "-f"], ["x", "y"]),
        (["-T4", "x"], ["--threads=4"], ["x"]),
        (["-cT", "4", "-"], ["-c", "--threads=4"], ["-"]),
        (["-o-", "x"], ["--out=-"], ["x"]),
        (["-o", "-x", "x"], ["--out=-x"], ["x"]),
        (["-9", "--", "-9", "--"], ["--level", "9"], ["-9", "--"]),
        (["--out", "a", "x", "--to-stdout"], ["--out", "a", "--stdout"], ["x"]),
        (["-o"], ["-o"], []),
    ],
)
def test_short_options_stand_together_and_anywhere(words, options, names):
    split = split_words(words)
    assert (split.options, split.names) == (options, names)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_no_half_file(tmp_path, number):
    """`Interrupted` is raised in the middle of a block, as the handlers of `main` raise it."""
    code = """
import signal, sys
from bit_transformer.errors import Interrupted
def stop(number, frame):
    raise Interrupted(number)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, stop)
from bit_transformer.cli.main import main
try:
    sys.exit(main(sys.argv[1:]))
except Interrupted as interrupt:
    sys.exit(interrupt.exit_code)
"""
    file = tmp_path / "large"
    file.write_bytes(os.urandom(8_000_000))
    words = [sys.executable, "-c", code, "compress", str(file)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".tmp-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    with process.stderr:
        while process.poll() is None and time.monotonic() < deadline:
            if list(tmp_path.glob(".tmp-*")):
                process.send_signal(number)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode in (128 + number, 128 + signal.SIGINT, -number)
    assert list(tmp_path.iterdir()) == [file]


def test_an_interruption_is_not_an_exception_that_handlers_swallow():
    assert Interrupted(signal.SIGTERM).exit_code == 143
    assert not isinstance(Interrupted(signal.SIGHUP), Exception)


def test_a_file_larger_than_allowed_leaves_the_old_one(here, capsys):
    Path("s").write_bytes(os.urandom(40_000))
    Path("s.btz").write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        assert main(["compress", "-f", "s"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    told = capsys.readouterr().err
    assert "File too large; the file system or `ulimit -f` allows no larger file" in told
    assert told.count("\n") == 1
    assert Path("s.btz").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["s", "s.btz"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.EISDIR, "name a file in it"),
        (errno.ENOENT, "make the folder first"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EOVERFLOW, "choose another folder or name"),
    ],
)
def test_remedies_fit_the_error(number, remedy):
    assert remedy in str(storage_error("x", OSError(number, os.strerror(number))))


def test_a_failed_read_is_a_source_error(here, monkeypatch, capsys):
    Path("s").write_bytes(TEXT)

    class Broken:
        def read(self, size):
            raise OSError(errno.EIO, "Input/output error")

        def fileno(self):
            raise OSError

    with pytest.raises(SourceError, match="cannot read s: Input/output error"):
        codec_files.Input("s", Broken()).read(1)


def test_a_reader_that_went_away_is_not_a_storage_error(here):
    with pytest.raises(BrokenPipeError), atomic.storage_errors(here):
        raise BrokenPipeError
    with pytest.raises(StorageError, match="it is a folder"):
        atomic.write_output(here, b"x")


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_closed_standard_streams_get_one_line(here, monkeypatch, capsys, closed):
    Path("s").write_bytes(TEXT)
    monkeypatch.setattr(sys, closed, None)
    assert (
        main(["compress", "-", "-o", "x"] if closed == "stdin" else ["compress", "-cf", "s"]) == 1
    )
    assert "is closed" in capsys.readouterr().err
    assert os.listdir() == ["s"]


def test_pages_and_pictures_go_through_links_and_into_devices(here):
    Path("page").symlink_to("real")
    atomic.write_output(Path("page"), b"new")
    assert Path("page").is_symlink()
    assert Path("real").read_bytes() == b"new"
    atomic.write_output(Path("/dev/null"), b"new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_listing_of_a_truncated_file_fails(here, capsys):
    Path("s").write_bytes(TEXT)
    assert main(["compress", "s"]) == 0
    whole = Path("s.btz").read_bytes()
    Path("s.btz").write_bytes(whole[: len(whole) // 2])
    assert main(["decompress", "--list", "s.btz"]) == 1
    told = capsys.readouterr()
    assert f"{len(TEXT):,} bytes" in told.out
    assert "without its end record: it was cut" in told.err
