"""The dashboard."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bit_transformer.cli.output import parse
from bit_transformer.extras import extra_imports


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
    password: str | None = None
    """What visitors have to know, needed where others can reach the address; else
    BIT_TRANSFORMER_PASSWORD."""
    allow_host: tuple[str, ...] = ()
    """Host headers to let in beside those of the address, such as example.org:5000."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(DashboardArguments, words, command="dashboard")
    with extra_imports(extra="dashboard", purpose="the dashboard"):
        from bit_transformer.server.access.origins import in_url
        from bit_transformer.server.client import find_address, find_token
        from bit_transformer.server.dashboard.app import PASSWORD_VARIABLE, Place, run_dashboard
    password = arguments.password or os.environ.get(PASSWORD_VARIABLE)
    place = Place(arguments.host, arguments.port, arguments.allow_host, password)
    address = find_address(arguments.server)
    url = f"http://{in_url(place.host)}:{place.port}"
    print(f"Dashboard of {address} on {url}, end it with Ctrl-C", flush=True)
    run_dashboard(place, address, lambda: arguments.token or find_token(arguments.runs))
