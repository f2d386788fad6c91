"""The operations as a REST interface with an OpenAPI document, built from their registry."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, cast

import anyio.to_thread
from fastapi import Body, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.event_stream import MEDIA_TYPE as EVENTS
from bit_transformer.server.event_stream import job_events, part_events, run_events
from bit_transformer.server.jobs.log import count_lines
from bit_transformer.server.operations import OPERATIONS
from bit_transformer.server.operations.files import File, describe_file
from bit_transformer.server.operations.perform import answer, stream_parts
from bit_transformer.server.operations.registry import Engine, Operation
from bit_transformer.server.operations.starting import starting_run
from bit_transformer.server.problems import (
    MEDIA_TYPE,
    Problem,
    problem,
    problem_of,
    problem_of_fields,
)
from bit_transformer.server.schemas import JobIdentity, Name

_BEARER = HTTPBearer(auto_error=False, description="The token in .server/token of the runs folder.")
_ALWAYS = (400, 401, 403, 408, 413, 422, 429, 500, 507)
"""Problems that every route can answer with."""
_PROBLEMS = {
    400: "the Host header is unknown, or the body cannot be parsed",
    401: "the token is missing or wrong",
    403: "the request comes from a page of an unknown origin",
    404: "nothing has this name",
    408: "the request came too slowly",
    409: "the name is taken, or the named object is busy or in a state that forbids this",
    413: "the request has more bytes than the server accepts",
    422: "a field is outside its limits; the problem names the limit",
    429: "there are too many requests, or too many jobs wait",
    500: "an internal error occurred",
    501: "an optional library is not installed",
    507: "the disk is full",
}
Endpoint = Callable[..., Awaitable[Any]]


def add_operations(app: FastAPI, engine: Engine) -> None:
    """Add a route for each operation, and the routes of events and files."""
    for operation in OPERATIONS.values():
        if operation.kind == "stream":
            endpoint, settings = _streaming(engine, operation), _events_settings()
        else:
            endpoint, settings = _answering(engine, operation), _settings(operation)
        app.add_api_route(
            operation.path,
            endpoint,
            methods=[operation.method],
            operation_id=operation.name,
            summary=operation.description.split("\n\n")[0],
            description=_description(operation),
            dependencies=[] if operation.name == "health" else [Depends(_BEARER)],
            **settings,
        )
    _add_events(app, engine)
    _add_files(app, engine)


def add_problems(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(BitTransformerError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_error)


def _settings(operation: Operation) -> dict[str, Any]:
    return {
        "response_model": operation.answer,
        "status_code": _status_of(operation),
        "responses": documented(*_ALWAYS, 404, 409, 501),
    }


def _status_of(operation: Operation) -> int:
    return 202 if operation.kind == "job" else 200


def _events_settings() -> dict[str, Any]:
    """Return the settings of a route that answers with server-sent events."""
    content: dict[str, Any] = {EVENTS: {}}
    return {
        "response_class": StreamingResponse,
        "responses": documented(*_ALWAYS, 404, 409, 501)
        | {200: {"description": "server-sent events", "content": content}},
    }


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of these problem statuses."""
    return {
        code: {
            "description": _PROBLEMS[code],
            "model": Problem,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for code in sorted(codes)
    }


def _description(operation: Operation) -> str:
    text = operation.description
    if operation.kind == "job":
        fields = ", ".join(operation.response.model_fields)
        text += f"\n\nReturns a job at once. Its `result` has these fields at the end: {fields}."
    if operation.kind == "stream":
        fields = ", ".join(operation.response.model_fields)
        text += f"\n\nEach event is a JSON document with {fields}. The last one is called `end`."
    return text


def _answering(engine: Engine, operation: Operation) -> Endpoint:
    status = _status_of(operation)

    async def endpoint(**given: Any) -> Response:
        request = _request(operation, given)
        # Serialised in the thread that computed it: a large answer would block the event loop.
        content = await answer(engine, operation, request, BaseModel.model_dump_json)
        return Response(content, status, media_type="application/json")

    return _with_parameters(endpoint, operation, operation.answer)


def _streaming(engine: Engine, operation: Operation) -> Endpoint:
    async def endpoint(**given: Any) -> Response:
        parts = stream_parts(engine, operation, _request(operation, given))
        # The status is sent before the first part. So an error in the first part must be seen now.
        first = await anext(parts, None)
        return StreamingResponse(part_events(first, parts), media_type=EVENTS)

    return _with_parameters(endpoint, operation, Response)


def _request(operation: Operation, given: dict[str, Any]) -> BaseModel:
    """Return the request from the body, the query or the path."""
    if "request" in given:
        return cast(BaseModel, given["request"])
    try:
        return operation.request.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _with_parameters(endpoint: Endpoint, operation: Operation, answer: Any) -> Endpoint:
    """Give an endpoint a signature that tells FastAPI where the fields come from."""
    fields = operation.request.model_fields
    parameters = []
    if operation.path_fields:
        for name in operation.path_fields:
            field = fields[name]
            in_path = Path(description=field.description)
            # The type is composed at run time, which a type checker cannot follow.
            annotation = cast(Any, Annotated)[(field.annotation, *field.metadata, in_path)]
            parameters.append(_parameter(name, annotation))
    elif fields and operation.reads_only:
        parameters.append(_parameter("request", Annotated[operation.request, Query()]))
    elif fields:
        parameters.append(_parameter("request", Annotated[operation.request, Body()]))
    endpoint.__signature__ = inspect.Signature(parameters, return_annotation=answer)  # type: ignore[attr-defined]
    return endpoint


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)


def _add_events(app: FastAPI, engine: Engine) -> None:
    async def follow_job(
        job: JobIdentity,
        last_event_id: Annotated[int, Header(ge=0, le=1 << 53)] = 0,
        newest: Annotated[int, Query(ge=0, le=1 << 53)] = 1 << 53,
    ) -> Response:
        """Follow a job. Each record that it writes is an event. Events are numbered, so that
        `Last-Event-ID` resumes after a broken connection. Of the older records, only the `newest`
        ones are sent. The last event is called `end` and holds the job."""
        metrics = engine.jobs.job(job).metrics
        lines = await anyio.to_thread.run_sync(
            count_lines, metrics, limiter=engine.lanes["control"]
        )
        content = job_events(engine, job, max(last_event_id, lines - newest))
        return StreamingResponse(content, media_type=EVENTS)

    async def follow_run(
        run: Name, last_event_id: Annotated[int, Header(ge=0, le=1 << 53)] = 0
    ) -> Response:
        """Follow a run, trained by a job or by a command line. Each record of its metrics is an
        event. Events are numbered, so that `Last-Event-ID` resumes after a broken connection. After
        a record of the kind `restart`, all records are sent again. The last event is called `end`
        and holds the summary of the run."""
        # Raises if there is no such run, before the response starts.
        require_run = functools.partial(starting_run, engine, run)
        await anyio.to_thread.run_sync(require_run, limiter=engine.lanes["control"])
        return StreamingResponse(run_events(engine, run, last_event_id), media_type=EVENTS)

    routes: dict[str, Endpoint] = {"run": follow_run, "job": follow_job}
    for kind, endpoint in routes.items():
        app.add_api_route(
            f"/{kind}s/{{{kind}}}/events",
            endpoint,
            operation_id=f"{kind}_events",
            dependencies=[Depends(_BEARER)],
            **_events_settings(),
        )


def _add_files(app: FastAPI, engine: Engine) -> None:
    async def upload(name: Name, request: Request) -> File:
        """Upload a file with any content, as the body of the request."""
        engine.jobs.require_unclaimed(name)
        with engine.workspace.create_file(name) as file:
            async for chunk in request.stream():
                file.write(chunk)
        return describe_file(engine.workspace, name)

    async def download(name: Name) -> FileResponse:
        """Download the content of a file."""
        path = engine.workspace.file(name)
        return FileResponse(path, media_type="application/octet-stream", filename=name)

    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    protected = [Depends(_BEARER)]
    app.add_api_route(
        "/files/{name}",
        upload,
        methods=["PUT"],
        operation_id="upload_file",
        status_code=201,
        responses=documented(*_ALWAYS, 409),
        openapi_extra={"requestBody": {"required": True, "content": binary}},
        dependencies=protected,
    )
    app.add_api_route(
        "/files/{name}",
        download,
        operation_id="download_file",
        response_class=FileResponse,
        responses=documented(*_ALWAYS, 404)
        | {200: {"description": "the content", "content": binary}},
        dependencies=protected,
    )


def _answer(found: Problem, more: dict[str, str] | None = None) -> Response:
    headers = found.headers() | (more or {})
    return Response(found.body(), found.status, headers, media_type=MEDIA_TYPE)


async def _on_error(_: Request, error: Exception) -> Response:
    return _answer(problem_of(error))


async def _on_invalid(_: Request, error: Exception) -> Response:
    found = cast(RequestValidationError, error).errors()
    return _answer(problem_of_fields(cast(Sequence[dict[str, Any]], found)))


async def _on_http(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    details = {
        HTTPStatus.NOT_FOUND: "there is nothing at this address; /openapi.json lists all addresses",
        HTTPStatus.METHOD_NOT_ALLOWED: "this address does not take this method; see /openapi.json",
    }
    detail = details.get(HTTPStatus(error.status_code), str(error.detail))
    allowed = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and _methods_at(request)
    headers = {"allow": ", ".join(sorted(allowed))} if allowed else None
    return _answer(problem(error.status_code, detail), headers)


def _methods_at(request: Request) -> set[str]:
    """Return the methods of all routes at an address; each route has only one of them."""
    routes = [
        route
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    return {method for route in routes for method in route.methods or ()}
