"""Start the management server."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bit_transformer.cli.parsing import parse
from bit_transformer.extras import extra_imports
from bit_transformer.server.settings import Limits


@dataclass(frozen=True)
class ServeArguments:
    """Serve a runs folder over REST, described at /openapi.json, and over MCP at /mcp.

    The default address accepts connections from this machine only. Any other address needs a token:
    BIT_TRANSFORMER_TOKEN in the environment, or --token, which other users of the machine can see.
    At the default address, the server makes one if neither is given. Jobs continue when the server
    ends, and the next server finds them again.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 7000
    """Port to listen on; 0 chooses a free one."""
    runs: Path = Path("runs")
    """Folder that holds the runs. The token is stored in .server/token there."""
    token: str | None = None
    """Token that clients must send."""
    allow_host: tuple[str, ...] = ()
    """Other Host headers to accept besides the address, such as example.org:7000."""
    allow_origin: tuple[str, ...] = ()
    """Origins whose web pages may send requests, such as https://example.org."""
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
    """Print the addresses of the server, once it listens."""
    print(f"Serving {token_path.parent.parent} on {url}, its token is in {token_path}")
    print(f"REST: {url}/openapi.json   MCP: {url}/mcp   stop with Ctrl-C", flush=True)
