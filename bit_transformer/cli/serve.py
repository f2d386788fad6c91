"""The management server."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bit_transformer.cli.output import parse
from bit_transformer.extras import extra_imports
from bit_transformer.server.settings import Limits


@dataclass(frozen=True)
class ServeArguments:
    """Serve a runs folder: REST with its description at /openapi.json, MCP at /mcp.

    Only this machine can reach the default address; another one needs --token, or
    BIT_TRANSFORMER_TOKEN in the environment, where other users of the machine cannot read it.
    Without either a token is made. Jobs go on when the server ends, and are found again.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 7000
    """Port to listen on; 0 takes a free one."""
    runs: Path = Path("runs")
    """Folder that holds the runs; the token is kept in .server/token there."""
    token: str | None = None
    """Token that clients have to know."""
    allow_host: tuple[str, ...] = ()
    """Host headers to let in beside those of the address, such as example.org:7000."""
    allow_origin: tuple[str, ...] = ()
    """Origins whose pages may ask, such as https://example.org."""
    limits: Limits = field(default_factory=Limits)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(ServeArguments, words, command="serve")
    with extra_imports(extra="server", purpose="the server"):
        from bit_transformer.server import serve
    address = serve.Address(
        arguments.host, arguments.port, arguments.allow_host, arguments.allow_origin
    )
    engine = serve.make_engine(arguments.runs, arguments.limits)
    serve.run_server(engine, address, arguments.token, print_address)


def print_address(url: str, token_path: Path) -> None:
    """Say where the server is, once it listens."""
    print(f"Serving {token_path.parent.parent} on {url}, its token is in {token_path}")
    print(f"REST: {url}/openapi.json   MCP: {url}/mcp   end it with Ctrl-C", flush=True)
