"""The reloader runs the tests first and restarts the server only if they pass."""

import runpy
import sys
import threading
from pathlib import Path

import pytest

from bit_transformer.errors import SourceError
from bit_transformer.server.reloader import Reloader, python_changes
from tests.server.conftest import wait_for

ROOT = Path(__file__).resolve().parents[2]
TESTS = "import sys; sys.exit('broken' in open(sys.argv[1]).read())"
SERVER = "import sys, time; print('up', flush=True); time.sleep(60)"
STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({ready!r}).touch()
time.sleep(60)
"""


def _watcher(code, server=SERVER, report=lambda line: None):
    tests = [sys.executable, "-c", TESTS, str(code)]
    return Reloader(tests, [sys.executable, "-c", server], report)


def test_a_broken_change_leaves_the_server_running_and_a_mended_one_replaces_it(tmp_path):
    code, told = tmp_path / "code.py", []
    code.write_text("whole")
    watcher = _watcher(code, report=told.append)
    seen = []

    def changes():
        seen.append(watcher._process)
        code.write_text("broken")
        yield 1
        seen.append(watcher._process)
        assert watcher._process.poll() is None
        code.write_text("mended")
        yield 2
        seen.append(watcher._process)

    watcher.run(changes())
    first, kept, replaced = seen
    assert first is kept
    assert replaced is not first
    assert first.poll() is not None
    assert replaced.poll() is not None
    assert [line for line in told if line != "testing"] == [
        "the tests pass: the server restarts",
        "the tests fail: the server keeps running unchanged",
        "the tests pass: the server restarts",
    ]


def test_nothing_starts_while_tests_fail(tmp_path):
    code, told = tmp_path / "code.py", []
    code.write_text("broken")
    watcher = _watcher(code, report=told.append)
    watcher.run([])
    assert told[-1] == "the tests fail: no server is started"


def test_a_server_that_will_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("bit_transformer.server.reloader._STOP_SECONDS", 0.2)
    code = tmp_path / "code.py"
    code.write_text("whole")
    ready = tmp_path / "ready"
    watcher = _watcher(code, STUBBORN.format(ready=str(ready)))
    watcher.reload()
    process = watcher._process
    wait_for(ready.exists)
    watcher.stop()
    assert process.returncode == -9


def test_changes_of_python_files_are_seen(tmp_path):
    stop, seen = threading.Event(), []
    changes = python_changes([tmp_path], stop)
    thread = threading.Thread(target=lambda: seen.extend(changes))
    thread.start()

    def written_and_seen():
        # Written repeatedly, because changes before the watch starts are not seen.
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / "code.py").write_text("x = 1")
        return bool(seen)

    wait_for(written_and_seen)
    stop.set()
    thread.join()
    assert {path for bunch in seen for _, path in bunch} == {str(tmp_path / "code.py")}


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SourceError, match="cannot watch"):
        python_changes([tmp_path / "none"])


@pytest.mark.parametrize(("script", "command"), [("watcher", "watch"), ("mcp_server", "serve")])
def test_the_documented_scripts_are_the_commands(script, command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
    assert end.value.code == 0
    assert f"bit-transformer {command}" in capsys.readouterr().out
