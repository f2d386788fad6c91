"""Call any operation of a running server."""

import json as json_format
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from bit_transformer.cli.output import print_json, print_table
from bit_transformer.cli.parsing import parse
from bit_transformer.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from bit_transformer.server.operations.registry import Operation


@dataclass(frozen=True)
class CallArguments:
    """Call an operation of a running server and print the answer as JSON.

    Without OPERATION, list the operations.
    """

    operation: Annotated[str | None, tyro.conf.Positional] = None
    """Name of an operation."""
    json: str = "{}"
    """Fields of the request, as a JSON object."""
    upload: tuple[Path, ...] = ()
    """Files to upload before the call; they keep their names."""
    wait: bool = False
    """Print the events of a job, one per line, until it ends. Fails if the job fails."""
    schema: bool = False
    """Print the JSON schemas of the request and of the answer instead of calling."""
    server: str | None = None
    """Address of the server. Without it: MCP_SERVER_ADDR, or http://127.0.0.1:7000."""
    runs: Path = Path("runs")
    """Runs folder of the server, which holds its token. BIT_TRANSFORMER_TOKEN comes first."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(CallArguments, words, command="call")
    # Checked before the operations are imported, which takes seconds.
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
        raise ConfigError(f"there is no operation {name!r}; choose one of {', '.join(OPERATIONS)}")
    return OPERATIONS[name]


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json_format.loads(text)
    except ValueError as error:
        raise ConfigError(f"--json is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"--json must be an object such as {{}}, got {text[:40]!r}")
    return fields


def _print_lines(parts: Iterator[Any]) -> None:
    for part in parts:
        print(json_format.dumps(part), flush=True)
