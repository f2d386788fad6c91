"""Progress bars for bytes, on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

    from bit_transformer.hub.client import Progress as FileProgress


@contextmanager
def codec_bar(title: str, total: int | None, *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """Show the progress of one file; yields a function that takes the number of new bytes.

    Shows nothing if `hidden`, or if standard error is not a terminal.
    """
    if hidden or not sys.stderr.isatty():
        yield lambda done: None
        return
    with _bars(binary_units=True, transient=True) as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.update(task, advance=done)


@contextmanager
def transfer_bar(title: str) -> "Iterator[FileProgress | None]":
    """Show the progress of an upload or download; yields None if stderr is not a terminal."""
    from rich.console import Console

    if not Console(file=sys.stderr).is_terminal:
        yield None
        return
    with _bars() as bars:
        task = bars.add_task(title, total=None)

        def show(done: int, total: int, file: str) -> None:
            bars.update(task, completed=done, total=total, description=file)

        yield show


def _bars(*, binary_units: bool = False, **settings: Any) -> "Progress":
    """Return bars with bytes, speed and time left."""
    # Rich is slow to import, and most commands end without a bar.
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=binary_units),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        **settings,
    )
