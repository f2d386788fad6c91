"""Uploads: a file appears under its name once all of it is there."""

import contextlib
from collections.abc import AsyncIterator

from bit_transformer.checkpoint.atomic import storage_errors, temporary_sibling
from bit_transformer.server.workspace import Workspace, claim


async def receive_file(workspace: Workspace, name: str, chunks: AsyncIterator[bytes]) -> None:
    """Write what comes into a new file; raises `ConflictError` where there is one of that name."""
    target = workspace.new_file(name)
    partial = temporary_sibling(target)
    try:
        with storage_errors(target), partial.open("xb") as file:
            async for chunk in chunks:
                file.write(chunk)
        with storage_errors(target):
            claim(partial, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
