"""Progress of an upload or a download on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from bit_transformer.hub.client import Progress


@contextmanager
def transfer_bar(what: str) -> Iterator[Progress | None]:
    """Shows bytes, speed and time left on stderr while a transfer lasts; nothing, and None, where
    stderr is no terminal."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bars(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console) as bars:
        task = bars.add_task(what, total=None)

        def show(done: int, total: int, file: str) -> None:
            bars.update(task, completed=done, total=total, description=file)

        yield show
