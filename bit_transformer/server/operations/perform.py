"""Carries out an operation, whoever asks for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, closing
from typing import TypeVar, cast

import anyio.to_thread
from pydantic import BaseModel

from bit_transformer.server.operations.jobs import job_document
from bit_transformer.server.operations.registry import Engine, Operation, submit

_HELD_BACK = 8
"""Parts of a stream that wait to be sent before its thread waits too."""


Answer = TypeVar("Answer")


async def answer(
    engine: Engine,
    operation: Operation,
    request: BaseModel,
    finish: Callable[[BaseModel], Answer],
) -> Answer:
    """`finish` of what `perform` gives, both in the lane of the operation.

    Raises `QueueFullError` where the lane has no place left.
    """

    def whole() -> Answer:
        return finish(perform(engine, operation, request))

    if operation.lane == "at_once":
        return whole()
    with ExitStack() as held:
        if operation.lane == "compute":
            held.enter_context(engine.models.place())
        return await anyio.to_thread.run_sync(whole, limiter=engine.lanes[operation.lane])


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
        if not closed.is_set():
            asyncio.run_coroutine_threadsafe(parts.put(part), loop).result()

    # Its thread holds the place until it has ended, however early the reader goes away.
    place = ExitStack()
    place.enter_context(engine.models.place())

    def produce() -> None:
        with place:
            put(_produce(operation.run(engine, request), put, closed))

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


def _produce(
    parts: Iterator[BaseModel],
    put: Callable[[BaseModel], None],
    closed: threading.Event,
) -> Exception | None:
    """Put all parts, until nobody reads them any more; what went wrong on the way."""
    try:
        with closing(cast(Generator[BaseModel, None, None], parts)):
            for part in parts:
                if closed.is_set():
                    return None
                put(part)
    except Exception as error:
        return error
    return None
