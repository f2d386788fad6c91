"""Runs an operation for REST and MCP, in the lane of the operation."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, closing
from typing import TypeVar, cast

import anyio.to_thread
from pydantic import BaseModel

from bit_transformer.server.operations.jobs import job_document
from bit_transformer.server.operations.registry import Engine, Operation, submit

_MAX_BUFFERED_PARTS = 8
"""Parts of a stream that wait for a slow client. Then generation pauses."""

Answer = TypeVar("Answer")


async def answer(
    engine: Engine, operation: Operation, request: BaseModel, finish: Callable[[BaseModel], Answer]
) -> Answer:
    """Call `perform` and `finish`, both in the operation's lane; raises `QueueFullError`."""

    def whole() -> Answer:
        return finish(perform(engine, operation, request))

    if operation.lane == "at_once":
        return whole()
    with ExitStack() as held:
        if operation.lane == "compute":
            held.enter_context(engine.models.request_slot())
        return await anyio.to_thread.run_sync(whole, limiter=engine.lanes[operation.lane])


def perform(engine: Engine, operation: Operation, request: BaseModel) -> BaseModel:
    """Return the response of a direct operation, or the new job of a job operation."""
    if operation.kind == "job":
        identity = submit(engine, operation, request)
        return job_document(engine.jobs, engine.jobs.state(identity))
    answer: BaseModel = operation.run(engine, request)
    return answer


async def stream_parts(
    engine: Engine, operation: Operation, request: BaseModel
) -> AsyncIterator[BaseModel]:
    """Yield the parts of a stream, all made in one thread.

    It must be one thread, because `torch.no_grad` holds for the thread that entered it. The thread
    pauses while the reader is slow, and ends when the reader goes away.
    """
    loop = asyncio.get_running_loop()
    parts: asyncio.Queue[BaseModel | Exception | None] = asyncio.Queue(_MAX_BUFFERED_PARTS)
    closed = threading.Event()

    def put(part: BaseModel | Exception | None) -> None:
        if not closed.is_set():
            asyncio.run_coroutine_threadsafe(parts.put(part), loop).result()

    # The thread holds the slot until it ends, even if the reader goes away earlier.
    slot = ExitStack()
    slot.enter_context(engine.models.request_slot())

    def produce() -> None:
        with slot:
            put(_produce(operation.run(engine, request), put, closed))

    threading.Thread(target=produce, name=operation.name, daemon=True).start()
    try:
        while (part := await parts.get()) is not None:
            if isinstance(part, Exception):
                raise part
            yield part
    finally:
        closed.set()
        # Makes room for a `put` that waits, so that the thread can end.
        while not parts.empty():
            parts.get_nowait()


def _produce(
    parts: Iterator[BaseModel], put: Callable[[BaseModel], None], closed: threading.Event
) -> Exception | None:
    """Put the parts into the queue until the reader has gone, and return an error or None."""
    try:
        with closing(cast(Generator[BaseModel, None, None], parts)):
            for part in parts:
                if closed.is_set():
                    return None
                put(part)
    except Exception as error:
        return error
    return None
