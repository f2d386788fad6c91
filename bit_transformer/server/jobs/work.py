"""What the code of a job has at hand."""

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bit_transformer.server.jobs.log import JobLog
from bit_transformer.server.workspace import Workspace


class Stopped(Exception):
    """Raised by the code of a job that ends because it was asked to, with nothing to show."""


@dataclass(frozen=True)
class Work:
    """One job in its own process."""

    workspace: Workspace
    log: JobLog
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What must not be written down, such as a token of the hub."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set once the job should end: after what it is at, saved."""
    saved: threading.Event = field(default_factory=threading.Event)
    """Set once that has been saved; asked again, the job ends at once."""
    _on_stop: list[Callable[[], None]] = field(default_factory=list)
    _on_save: list[Callable[[], None]] = field(default_factory=list)

    def listen(self) -> None:
        """Take SIGTERM and SIGINT for the wish to stop, SIGUSR1 for the wish to save."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGUSR1, self._save)

    def give_way(self) -> None:
        """Raise `Stopped` if the job should end."""
        if self.stop.is_set():
            raise Stopped

    def when_stopped(self, action: Callable[[], None]) -> None:
        """Call this when the job should end, at once if it should already."""
        self._on_stop.append(action)
        if self.stop.is_set():
            action()

    def when_asked_to_save(self, action: Callable[[], None]) -> None:
        """Call this when somebody wants the present state saved."""
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
