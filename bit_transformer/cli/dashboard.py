"""The dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bit_transformer.cli.output import parse
from bit_transformer.errors import MissingExtraError
from bit_transformer.server.client import find_address, find_token


@dataclass(frozen=True)
class DashboardArguments:
    """Show what a management server does, in a browser: train, watch, ask, review, share.

    Only this machine can reach the default address. The server's token stays in this process.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 5000
    """Port to listen on."""
    server: str | None = None
    """Address of the management server; else MCP_SERVER_ADDR, else http://127.0.0.1:7000."""
    token: str | None = None
    """Token of the management server; else BIT_TRANSFORMER_TOKEN, else that of the runs folder."""
    runs: Path = Path("runs")
    """Runs folder of the management server, for its token."""
    allow_host: tuple[str, ...] = ()
    """Host headers to let in beside those of the address, such as example.org:5000."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(DashboardArguments, words, command="dashboard")
    try:
        from bit_transformer.server.dashboard.app import Place, run_dashboard
    except ImportError as error:
        raise MissingExtraError(
            f"the dashboard needs {error.name}; install bit-transformer[dashboard]"
        ) from error
    place = Place(arguments.host, arguments.port, arguments.allow_host)
    address = find_address(arguments.server)
    print(f"Dashboard of {address} on http://{place.host}:{place.port}, end it with Ctrl-C")
    run_dashboard(place, address, lambda: arguments.token or find_token(arguments.runs))
