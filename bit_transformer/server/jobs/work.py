"""Everything that the code of a job may use: workspace, log, and requests to stop or to save."""

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bit_transformer.server.jobs.log import JobLog
from bit_transformer.server.workspace import Workspace


class Stopped(Exception):
    """Raised by the code of a job that was asked to end before it had a result."""


@dataclass(frozen=True)
class Work:
    """One job in its own process."""

    workspace: Workspace
    log: JobLog
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values that must not be written to disk, such as a token of the hub."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the job should finish its current step, save and end."""
    saved: threading.Event = field(default_factory=threading.Event)
    """Set when it has saved after `stop`. A further stop request then ends the job at once."""
    _on_stop: list[Callable[[], None]] = field(default_factory=list)
    _on_save: list[Callable[[], None]] = field(default_factory=list)

    def listen(self) -> None:
        """Handle SIGTERM and SIGINT as stop requests, and SIGUSR1 as a request to save."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGUSR1, self._save)

    def raise_if_stopped(self) -> None:
        """Raise `Stopped` if the job should end."""
        if self.stop.is_set():
            raise Stopped

    def on_stop(self, action: Callable[[], None]) -> None:
        """Call `action` on a stop request, or at once if there was one."""
        self._on_stop.append(action)
        if self.stop.is_set():
            action()

    def on_save(self, action: Callable[[], None]) -> None:
        """Call `action` on a request to save."""
        self._on_save.append(action)

    def _stop(self, *_: Any) -> None:
        if self.saved.is_set():
            raise Stopped
        self.stop.set()
        for action in self._on_stop:
            action()

    def _save(self, *_: Any) -> None:
        for action in self._on_save:
            action()
