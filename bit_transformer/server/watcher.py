"""Keeps a server running while its code changes: tests first, a restart only if they pass."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bit_transformer.errors import SourceError
from bit_transformer.extras import extra_imports

_PATIENCE = 5.0
"""Seconds for a server to end by itself."""
_DEBOUNCE = 400
"""Milliseconds without a change before a bunch of changes is taken for complete."""


class Watcher:
    """A server process and the command that has to pass before it is started anew."""

    def __init__(
        self,
        tests: Sequence[str],
        server: Sequence[str],
        tell: Callable[[str], None] = print,
    ) -> None:
        self._tests, self._server, self._tell = tuple(tests), tuple(server), tell
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, changes: Iterable[object]) -> None:
        """Start if the tests pass, then again after every bunch of changes, until those end."""
        try:
            self.changed()
            for _ in changes:
                self.changed()
        finally:
            self.stop()

    def changed(self) -> None:
        """Run the tests; if they pass, replace the server."""
        self._tell("testing")
        if subprocess.run(self._tests, check=False).returncode:
            running = self._process is not None and self._process.poll() is None
            kept = "the server stays as it is" if running else "no server is started"
            self._tell(f"the tests fail: {kept}")
            return
        self.stop()
        self._process = subprocess.Popen(self._server)
        self._tell("the tests pass: the server is started anew")

    def stop(self) -> None:
        """End the server: politely, then not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def python_changes(paths: Sequence[Path], stop: threading.Event | None = None) -> Iterable[object]:
    """A bunch of changes to Python files at a time.

    Raises `SourceError` for a path that is not there, `MissingExtraError` without watchfiles.
    """
    with extra_imports("watchfiles", extra="server", purpose="watching files"):
        from watchfiles import PythonFilter, watch
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise SourceError(f"cannot watch {', '.join(missing)}: not there")
    return watch(*paths, watch_filter=PythonFilter(), debounce=_DEBOUNCE, stop_event=stop)


def pytest_command(words: Sequence[str]) -> list[str]:
    """The command that runs tests."""
    return [sys.executable, "-m", "pytest", "-q", *words]


def serve_command(words: Sequence[str]) -> list[str]:
    """The command that runs the server."""
    return [sys.executable, "-m", "bit_transformer", "serve", *words]
