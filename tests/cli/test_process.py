"""Tests of the process of a command: standard streams, signals and exit codes."""

import errno
import io
import os
import signal
import subprocess
import sys
import time

import pytest

from bit_transformer.cli.main import main
from bit_transformer.cli.output import print_table
from bit_transformer.cli.process import signals_raise
from bit_transformer.errors import Interrupted, StoppedError

COMMAND = f"{sys.executable} -m bit_transformer"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $B is the command `bit-transformer`."""
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "B": COMMAND, **environment},
        errors="replace",
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("$B --help >/dev/full", 1, "cannot write to standard output: No space left on device"),
        ("$B --help >&-", 1, "cannot write to standard output: it is closed"),
        ("$B fly 2>&-", 2, ""),
        ("$B fly >&- 2>/dev/full", 2, ""),
        ("$B --debug runs none 2>/dev/full", 1, ""),
        ("$B runs none --debug 2>/dev/full", 1, ""),
        ("$B --version <&-", 0, ""),
        ("$B runs none --json >&-", 1, "none is not a folder; name one that holds run folders"),
    ],
)
def test_a_stream_that_cannot_be_used_is_one_line(line, code, told, unbuffered):
    ended = shell(line, PYTHONUNBUFFERED=unbuffered)
    assert ended.returncode == code
    assert ended.stderr == (f"bit-transformer: {told}\n" if told else "")


def test_a_reader_that_goes_away_is_not_reported():
    ended = shell("(sleep 2; $B completion fish) | true; echo ${PIPESTATUS[0]}")
    assert ended.stdout == "141\n"
    assert ended.stderr == ""


def test_a_reader_of_a_table_that_goes_away_raises_broken_pipe(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        print_table("Runs", ("name",), [("first",)])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_word_that_is_not_text_is_quoted_in_any_locale(encoding):
    line = r"$B runs $'caf\xe9-\xc5\x82'"
    ended = shell(line, LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING=encoding)
    assert ended.returncode == 1
    assert ended.stderr.startswith("bit-transformer: caf")
    assert ended.stderr.endswith("is not a folder; name one that holds run folders\n")


def test_help_is_printed_in_a_locale_without_letters():
    for command in ("train", "score"):
        ended = shell(f"$B {command} --help-all", LC_ALL="C", PYTHONIOENCODING="ascii")
        assert ended.returncode == 0
        assert ended.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_raises_once_and_cleans_up(number):
    cleaned = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            cleaned.append(True)

    with signals_raise(), pytest.raises(Interrupted) as caught:
        work()
    assert cleaned == [True]
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_the_caller_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_raise():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (Interrupted(signal.SIGHUP), 129, "stopped by SIGHUP"),
        (StoppedError("stopped at step 2 of 4", signal.SIGINT), 130, "stopped at step 2 of 4"),
        (PermissionError(13, "Permission denied", "x"), 1, "cannot use x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "the operating system reports: No space"),
        (MemoryError(), 1, "memory is exhausted"),
        (SystemExit("that is all"), 1, "that is all"),
    ],
)
def test_every_end_has_its_code_and_one_line(error, code, line, monkeypatch, capsys):
    def fail(words: list[str]) -> None:
        raise error

    monkeypatch.setattr("bit_transformer.cli.runs.run", fail)
    assert main(["runs"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith(f"bit-transformer: {line}")
    assert printed.count("\n") == 1


def test_a_reader_of_messages_that_goes_away_stops_no_work(tmp_path):
    (tmp_path / "a").write_bytes(b"to be or not to be")
    ended = shell(f"exec 2> >(exec true); sleep 0.5; $B compress {tmp_path}/a; echo $?")
    assert ended.stdout == "0\n"
    assert (tmp_path / "a.btz").stat().st_size > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_torch_starts_waits_until_it_has(number):
    """Torch's C++ code would abort the process if a callback raised an interrupt."""
    torch = compile(f"import os; os.kill(os.getpid(), {int(number)}); done.append(1)", "", "exec")
    done: list[int] = []

    def load() -> None:
        exec(torch, {"__name__": "torch", "done": done})
        time.sleep(5)

    with signals_raise(), pytest.raises(KeyboardInterrupt):
        load()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_hits_a_finalizer_comes_again():
    class Ended:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def work() -> None:
        ended = Ended()
        del ended
        time.sleep(5)

    with signals_raise(), pytest.raises(Interrupted):
        work()


def test_an_interrupt_that_a_library_makes_another_error_of_is_still_one(monkeypatch, capsys):
    def fail(words: list[str]) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise TypeError("expected a message argument") from None

    monkeypatch.setattr("bit_transformer.cli.runs.run", fail)
    assert main(["runs"]) == 143
    assert capsys.readouterr().err == "bit-transformer: stopped by SIGTERM\n"


def test_an_interrupt_while_libraries_load_is_one_line():
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        waiting = (
            "import os, signal, sys\n"
            "from bit_transformer.cli.main import main\n"
            "sys.argv = ['bit-transformer', 'runs']\n"
            "class Finder:\n"
            "    def find_spec(self, name, path, target=None):\n"
            f"        if name == 'tyro': os.kill(os.getpid(), {int(number)})\n"
            "sys.meta_path.insert(0, Finder())\n"
            "sys.exit(main())\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", waiting], capture_output=True, text=True, check=False
        )
        assert ended.returncode == code
        assert ended.stderr.startswith("bit-transformer: ")
        assert ended.stderr.count("\n") == 1
