"""The operations as tools of the Model Context Protocol, and runs as resources."""

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.mcpserver.tools.base import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.jobs.log import follow
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.operations.jobs import JobRequest, job_document
from bit_transformer.server.operations.perform import answer, stream
from bit_transformer.server.operations.registry import Engine, Operation
from bit_transformer.server.operations.status import package_version
from bit_transformer.server.problems import problem_of, problem_of_fields
from bit_transformer.server.schemas import Job

_INSTRUCTIONS = """Train, ask and inspect language models over bits. `train` and other long work
answer with a job at once: call `wait_job` to follow it with progress, `cancel_job` to end it saved.
`init` then `step` trains in small portions. Data is uploaded with `put_file` and named in
data.sources."""


class _Raw(ArgModelBase):
    """Arguments as they came: the operation's own request type judges them."""

    model_config = ConfigDict(extra="allow")

    def model_dump_one_level(self) -> dict[str, Any]:
        return {"arguments": dict(self.model_extra or {})}


def make_mcp(engine: Engine) -> MCPServer:
    """A server with a tool for every operation, `wait_job`, and resources for every run."""
    tools = [_tool(engine, operation) for operation in OPERATIONS.values()]
    server: MCPServer = MCPServer(
        "bit-transformer",
        instructions=_INSTRUCTIONS,
        version=package_version(),
        tools=[*tools, _wait_tool(engine)],
        log_level="WARNING",
    )
    _add_resources(server, engine)
    return server


def _tool(engine: Engine, operation: Operation) -> Tool:
    kind = operation.answer
    if operation.kind == "stream":
        kind = create_model(f"{operation.name.title()}Parts", parts=(list[kind], ...))  # type: ignore[valid-type]

        async def call(arguments: dict[str, Any], context: Context[Any, Any]) -> BaseModel:
            parts = []
            request = operation.request.model_validate(arguments)
            async for part in stream(engine, operation, request):
                parts.append(part)
                done, total = (getattr(part, name, None) for name in ("done", "total"))
                await context.report_progress(done or len(parts), total)
            return kind(parts=parts)

    else:

        async def call(arguments: dict[str, Any], context: Context[Any, Any]) -> BaseModel:
            request = operation.request.model_validate(arguments)
            return await answer(engine, operation, request, _as_it_is)

    return _made(call, operation.name, operation.description, operation.request, kind, operation)


def _as_it_is(answered: BaseModel) -> BaseModel:
    return answered


def _wait_tool(engine: Engine) -> Tool:
    async def call(arguments: dict[str, Any], context: Context[Any, Any]) -> BaseModel:
        identity = JobRequest.model_validate(arguments).job
        job = engine.jobs.job(identity)
        async for _ in follow(job.metrics, 0, lambda: engine.jobs.state(identity).over):
            document = job_document(engine.jobs, engine.jobs.state(identity))
            if document.progress is not None:
                progress = document.progress
                await context.report_progress(progress.done, progress.total, progress.unit)
        return job_document(engine.jobs, engine.jobs.state(identity))

    text = "Wait until a job is over, with progress notifications; answers with the job."
    return _made(call, "wait_job", text, JobRequest, Job, None)


def _made(
    call: Callable[..., Awaitable[BaseModel]],
    name: str,
    description: str,
    request: type[BaseModel],
    answer: type[BaseModel],
    operation: Operation | None,
) -> Tool:
    reads_only = operation is None or operation.reads_only
    return Tool(
        fn=_told(call),
        name=name,
        title=None,
        description=description,
        parameters=request.model_json_schema(),
        fn_metadata=FuncMetadata(arg_model=_Raw, output_model=answer),
        is_async=True,
        context_kwarg="context",
        annotations=ToolAnnotations(
            read_only_hint=reads_only,
            destructive_hint=operation is not None and operation.method == "DELETE",
        ),
    )


def _told(call: Callable[..., Awaitable[BaseModel]]) -> Callable[..., Awaitable[BaseModel]]:
    """The same, its errors in words that reach the client."""

    async def telling(arguments: dict[str, Any], context: Context[Any, Any]) -> BaseModel:
        try:
            return await call(arguments, context)
        except BitTransformerError as error:
            found = problem_of(error)
            raise ToolError(f"{found.status} {found.title}: {found.detail}") from error
        except ValidationError as error:
            raise ToolError(problem_of_fields(error.errors()).detail) from error

    return telling


def _add_resources(server: MCPServer, engine: Engine) -> None:
    shown = {
        "metrics": ("metrics", "Records of a run's steps, evaluations and telemetry."),
        "model_config": ("model_config", "Settings of a run's model and of its training."),
        "run": ("get_run", "Everything about a run."),
    }
    for what, (name, description) in shown.items():
        _add_resource(server, engine, what, OPERATIONS[name], description)

    @server.resource("bit-transformer://runs", mime_type="application/json")
    async def runs() -> str:
        """The runs and models there are."""
        return await _read(engine, OPERATIONS["list_runs"], {})


def _add_resource(
    server: MCPServer, engine: Engine, what: str, operation: Operation, description: str
) -> None:
    @server.resource(
        f"bit-transformer://runs/{{run}}/{what}",
        name=what,
        description=description,
        mime_type="application/json",
    )
    async def read(run: str) -> str:
        return await _read(engine, operation, {"run": run})


async def _read(engine: Engine, operation: Operation, arguments: dict[str, Any]) -> str:
    try:
        request = operation.request.model_validate(arguments)
        return await answer(engine, operation, request, BaseModel.model_dump_json)
    except BitTransformerError as error:
        raise ResourceNotFoundError(str(error)) from error
    except ValidationError as error:
        raise ResourceNotFoundError(problem_of_fields(error.errors()).detail) from error
