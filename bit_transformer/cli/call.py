"""Any operation of a running server."""

import json as json_format
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bit_transformer.cli.output import parse, print_json, print_table
from bit_transformer.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from bit_transformer.server.operations.registry import Operation


@dataclass(frozen=True)
class CallArguments:
    """Ask a running server for one of its operations and print the answer as JSON.

    Without an OPERATION, list them.
    """

    operation: Annotated[str | None, tyro.conf.Positional] = None
    """Name of an operation."""
    json: str = "{}"
    """Its fields, as a JSON object."""
    upload: tuple[Path, ...] = ()
    """Files to upload first, under their own names."""
    wait: bool = False
    """Print what a job tells, a line each, until it is over; fails if the job does."""
    schema: bool = False
    """Print the JSON schema of the operation's fields and of its answer instead."""
    server: str | None = None
    """Address of the server; else MCP_SERVER_ADDR, else http://127.0.0.1:7000."""
    runs: Path = Path("runs")
    """Runs folder of the server, for its token; else BIT_TRANSFORMER_TOKEN."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(CallArguments, words, command="call")
    # Before the operations are loaded, which takes seconds.
    fields = _fields(arguments.json)
    from bit_transformer.server.client import Client, find_address, find_token
    from bit_transformer.server.operations import OPERATIONS

    if arguments.operation is None:
        rows = [
            (one.name, one.method, one.path, one.description.split("\n\n")[0].replace("\n", " "))
            for one in OPERATIONS.values()
        ]
        print_table("Operations", ("name", "method", "path", "does"), rows)
        return
    operation = _operation(arguments.operation)
    if arguments.schema:
        schemas = {"fields": operation.request, "answer": operation.answer}
        print_json({name: kind.model_json_schema() for name, kind in schemas.items()})
        return
    client = Client(find_address(arguments.server), find_token(arguments.runs))
    for path in arguments.upload:
        client.upload(path)
    if operation.kind == "stream":
        _print_lines(client.stream(operation, fields))
        return
    answer = client.call(operation, fields)
    if arguments.wait and operation.kind == "job":
        _print_lines(client.follow(answer["id"]))
        answer = client.call(OPERATIONS["get_job"], {"job": answer["id"]})
        if answer["state"] == "failed":
            raise ServiceError(f"job {answer['id']} failed: {answer['error']}")
        return
    print_json(answer)


def _operation(name: str) -> "Operation":
    from bit_transformer.server.operations import OPERATIONS

    if name not in OPERATIONS:
        raise ConfigError(f"no operation {name!r}; there are {', '.join(OPERATIONS)}")
    return OPERATIONS[name]


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json_format.loads(text)
    except ValueError as error:
        raise ConfigError(f"--json is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"--json must be an object such as {{}}, got {text[:40]!r}")
    return fields


def _print_lines(parts: Iterator[Any]) -> None:
    for part in parts:
        print(json_format.dumps(part), flush=True)
