"""Says what a wait is for, when it lasts.

Work that may take long stands inside `waiting`. It is silent for a second; then one line goes to
the logger of this package. A library's user decides what becomes of log lines, and the command line
shows them on standard error.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 1.0
_log = logging.getLogger(__name__)


@contextmanager
def waiting(what: str, *, patience: float = _PATIENCE) -> Iterator[None]:
    """Log `what`, such as "evaluating on all held-out data", if the work inside takes over
    `patience` seconds."""
    timer = threading.Timer(patience, _log.info, ("%s ...", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
