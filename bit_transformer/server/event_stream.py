"""Server-sent events: records of a job or a run, and parts of a stream, as they are made."""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio.to_thread
from pydantic import BaseModel

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.jobs.log import follow
from bit_transformer.server.operations.jobs import job_document
from bit_transformer.server.operations.registry import Engine
from bit_transformer.server.operations.runs import get_run
from bit_transformer.server.problems import problem_of
from bit_transformer.server.schemas import RunName
from bit_transformer.training.run_folder import RunFolder

MEDIA_TYPE = "text/event-stream"
_PING_SECONDS = 15.0


def event(data: str, *, kind: str | None = None, number: int | None = None) -> bytes:
    """Return one event. `data` must be a single line, such as JSON."""
    lines = [] if number is None else [f"id: {number}"]
    lines += [] if kind is None else [f"event: {kind}"]
    return "\n".join([*lines, f"data: {data}", "", ""]).encode()


async def job_events(engine: Engine, identity: str, after: int) -> AsyncIterator[bytes]:
    """Yield the records of a job after line `after`, and at the end the job as event `end`."""
    job = engine.jobs.job(identity)

    def is_over() -> bool:
        return engine.jobs.state(identity).over

    async for part in _lines(job.metrics, after, is_over):
        yield part

    def describe() -> str:
        return job_document(engine.jobs, engine.jobs.state(identity)).model_dump_json()

    document = await anyio.to_thread.run_sync(describe, limiter=engine.lanes["control"])
    yield event(document, kind="end")


async def run_events(engine: Engine, name: str, after: int) -> AsyncIterator[bytes]:
    """Yield the records of a run after line `after`, and at the end its summary as event `end`."""
    metrics = RunFolder(engine.workspace.root / name).metrics

    def is_over() -> bool:
        return engine.jobs.owner(name) is None and engine.workspace.writer(name) is None

    async for part in _lines(metrics, after, is_over):
        yield part

    def describe() -> str:
        try:
            return get_run.run(engine, RunName(run=name)).summary.model_dump_json()
        except BitTransformerError as error:
            return problem_of(error).body().decode()

    document = await anyio.to_thread.run_sync(describe, limiter=engine.lanes["work"])
    yield event(document, kind="end")


async def _lines(path: Path, after: int, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield lines as events, and comments meanwhile, so that no proxy closes an idle connection."""
    last_sent = time.monotonic()
    async for batch in follow(path, after, is_over):
        if batch:
            yield b"".join(event(line, number=number) for number, line in batch)
        elif time.monotonic() - last_sent < _PING_SECONDS:
            continue
        else:
            yield b": waiting\n\n"
        last_sent = time.monotonic()


async def part_events(
    first: BaseModel | None, rest: AsyncIterator[BaseModel]
) -> AsyncIterator[bytes]:
    """Yield an event for each part of a stream, and at the end `end`, or `problem` on an error."""
    try:
        if first is not None:
            yield event(first.model_dump_json())
        async for part in rest:
            yield event(part.model_dump_json())
    except BitTransformerError as error:
        yield event(problem_of(error).body().decode(), kind="problem")
    else:
        yield event("{}", kind="end")
