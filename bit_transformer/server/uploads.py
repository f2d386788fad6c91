"""Uploads: a file appears under its name once all of it is there."""

import contextlib
import os
from collections.abc import AsyncIterator

from bit_transformer.checkpoint.atomic import storage_errors, temporary_sibling
from bit_transformer.errors import ConflictError
from bit_transformer.server.workspace import Workspace


async def receive_file(workspace: Workspace, name: str, chunks: AsyncIterator[bytes]) -> None:
    """Write what comes into a new file; raises `ConflictError` where there is one of that name."""
    target = workspace.new_file(name)
    partial = temporary_sibling(target)
    try:
        with storage_errors(target), partial.open("xb") as file:
            async for chunk in chunks:
                file.write(chunk)
        try:
            os.link(partial, target)
        except FileExistsError as error:
            raise ConflictError(f"the file {name!r} has come to be meanwhile") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
