"""A log line that names the work when it takes long.

Slow work runs inside `waiting`, which logs one line if the work takes longer than a second. A
program that uses this package decides where log lines go; the command line shows them on standard
error.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 1.0
"""Seconds before the line is logged."""
_log = logging.getLogger(__name__)


@contextmanager
def waiting(what: str, *, patience: float = _PATIENCE) -> Iterator[None]:
    """Log `what`, such as "evaluating on all held-out data", if the block takes longer than
    `patience` seconds."""
    timer = threading.Timer(patience, _log.info, ("%s ...", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
