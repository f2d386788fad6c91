"""Restarts a server when its code changes, if the tests pass. For development."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bit_transformer.errors import SourceError
from bit_transformer.extras import extra_imports

_STOP_SECONDS = 5.0
"""Seconds that a server has to end after SIGTERM. Then it is killed."""
_DEBOUNCE = 400
"""Milliseconds without a change after which a group of changes counts as complete."""


class Reloader:
    """A server process, and the test command that must pass before a restart."""

    def __init__(
        self, tests: Sequence[str], server: Sequence[str], report: Callable[[str], None] = print
    ) -> None:
        self._tests, self._server, self._report = tuple(tests), tuple(server), report
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, changes: Iterable[object]) -> None:
        """Test and start the server, and again after every group of changes, until they end."""
        try:
            self.reload()
            for _ in changes:
                self.reload()
        finally:
            self.stop()

    def reload(self) -> None:
        """Run the tests, and restart the server if they pass."""
        self._report("testing")
        if subprocess.run(self._tests, check=False).returncode:
            running = self._process is not None and self._process.poll() is None
            kept = "the server keeps running unchanged" if running else "no server is started"
            self._report(f"the tests fail: {kept}")
            return
        self.stop()
        self._process = subprocess.Popen(self._server)
        self._report("the tests pass: the server restarts")

    def stop(self) -> None:
        """End the server with SIGTERM, or kill it if it does not end in time."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def python_changes(paths: Sequence[Path], stop: threading.Event | None = None) -> Iterable[object]:
    """Return an iterator over groups of changes to Python files.

    Raises `SourceError` if a path does not exist, and `MissingExtraError` without watchfiles.
    """
    with extra_imports("watchfiles", extra="server", purpose="watching files"):
        from watchfiles import PythonFilter, watch
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise SourceError(
            f"cannot watch {', '.join(missing)}: no such file or folder; name an existing one"
        )
    return watch(*paths, watch_filter=PythonFilter(), debounce=_DEBOUNCE, stop_event=stop)


def pytest_command(words: Sequence[str]) -> list[str]:
    """Return the command that runs the tests."""
    return [sys.executable, "-m", "pytest", "-q", *words]


def serve_command(words: Sequence[str]) -> list[str]:
    """Return the command that runs the server."""
    return [sys.executable, "-m", "bit_transformer", "serve", *words]
