"""Carries out an operation, whoever asks for it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import closing

from pydantic import BaseModel

from bit_transformer.server.operations.jobs import job_document
from bit_transformer.server.operations.registry import Engine, Operation, submit

_HELD_BACK = 8
"""Parts of a stream that wait to be sent before its thread waits too."""


def perform(engine: Engine, operation: Operation, request: BaseModel) -> BaseModel:
    """The answer of an operation that is no stream; of a job, the job."""
    if operation.kind == "job":
        identity = submit(engine, operation, request)
        return job_document(engine.jobs, engine.jobs.state(identity))
    answer: BaseModel = operation.run(engine, request)
    return answer


async def stream(
    engine: Engine, operation: Operation, request: BaseModel
) -> AsyncIterator[BaseModel]:
    """The parts of a stream, made in one thread from the first to the last.

    One thread, for the mode that keeps gradients off belongs to a thread. It waits while nobody
    reads, and ends with its reader.
    """
    loop = asyncio.get_running_loop()
    parts: asyncio.Queue[BaseModel | Exception | None] = asyncio.Queue(_HELD_BACK)
    closed = threading.Event()

    def put(part: BaseModel | Exception | None) -> None:
        asyncio.run_coroutine_threadsafe(parts.put(part), loop).result()

    def produce() -> None:
        end: Exception | None = None
        try:
            with closing(operation.run(engine, request)) as made:
                for part in made:
                    if closed.is_set():
                        return
                    put(part)
        except Exception as error:
            end = error
        if not closed.is_set():
            put(end)

    threading.Thread(target=produce, name=operation.name, daemon=True).start()
    try:
        while (part := await parts.get()) is not None:
            if isinstance(part, Exception):
                raise part
            yield part
    finally:
        closed.set()
        while not parts.empty():
            parts.get_nowait()
