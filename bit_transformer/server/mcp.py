"""The operations as tools of the Model Context Protocol (MCP), and the runs as resources."""

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
from bit_transformer.server.operations.perform import answer, stream_parts
from bit_transformer.server.operations.registry import Engine, Operation
from bit_transformer.server.operations.status import package_version
from bit_transformer.server.problems import problem_of, problem_of_fields
from bit_transformer.server.schemas import Job

_INSTRUCTIONS = """Train, query and inspect language models over bits. `train` and other long
operations return a job at once. Call `wait_job` to follow it with progress, and `cancel_job` to
save and end it. `init`, then `step`, trains in small portions. Upload data with `put_file` and name
it in data.sources."""


class _RawArguments(ArgModelBase):
    """Arguments without validation. The request type of the operation validates them."""

    model_config = ConfigDict(extra="allow")

    def model_dump_one_level(self) -> dict[str, Any]:
        return {"arguments": dict(self.model_extra or {})}


def make_mcp(engine: Engine) -> MCPServer:
    """Return a server with a tool for each operation, `wait_job`, and resources for each run."""
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
            async for part in stream_parts(engine, operation, request):
                parts.append(part)
                done, total = (getattr(part, name, None) for name in ("done", "total"))
                await context.report_progress(done or len(parts), total)
            return kind(parts=parts)

    else:

        async def call(arguments: dict[str, Any], context: Context[Any, Any]) -> BaseModel:
            request = operation.request.model_validate(arguments)
            return await answer(engine, operation, request, lambda response: response)

    return _make_tool(
        call, operation.name, operation.description, operation.request, kind, operation
    )


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

    text = "Wait until a job is over, with progress notifications. Returns the job."
    return _make_tool(call, "wait_job", text, JobRequest, Job, None)


def _make_tool(
    call: Callable[..., Awaitable[BaseModel]],
    name: str,
    description: str,
    request: type[BaseModel],
    answer: type[BaseModel],
    operation: Operation | None,
) -> Tool:
    reads_only = operation is None or operation.reads_only
    return Tool(
        fn=_with_tool_errors(call),
        name=name,
        title=None,
        description=description,
        parameters=request.model_json_schema(),
        fn_metadata=FuncMetadata(arg_model=_RawArguments, output_model=answer),
        is_async=True,
        context_kwarg="context",
        annotations=ToolAnnotations(
            read_only_hint=reads_only,
            destructive_hint=operation is not None and operation.method == "DELETE",
        ),
    )


def _with_tool_errors(
    call: Callable[..., Awaitable[BaseModel]],
) -> Callable[..., Awaitable[BaseModel]]:
    """Return the same function with its errors as `ToolError`, whose message the client sees."""

    async def call_with_errors(arguments: dict[str, Any], context: Context[Any, Any]) -> BaseModel:
        try:
            return await call(arguments, context)
        except BitTransformerError as error:
            found = problem_of(error)
            raise ToolError(f"{found.status} {found.title}: {found.detail}") from error
        except ValidationError as error:
            raise ToolError(problem_of_fields(error.errors()).detail) from error

    return call_with_errors


def _add_resources(server: MCPServer, engine: Engine) -> None:
    resources = {
        "metrics": ("metrics", "Records of a run's steps, evaluations and telemetry."),
        "model_config": ("model_config", "Settings of a run's model and of its training."),
        "run": ("get_run", "Everything about a run."),
    }
    for resource, (name, description) in resources.items():
        _add_resource(server, engine, resource, OPERATIONS[name], description)

    @server.resource("bit-transformer://runs", mime_type="application/json")
    async def runs() -> str:
        """All runs and models."""
        return await _read(engine, OPERATIONS["list_runs"], {})


def _add_resource(
    server: MCPServer, engine: Engine, name: str, operation: Operation, description: str
) -> None:
    @server.resource(
        f"bit-transformer://runs/{{run}}/{name}",
        name=name,
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
