"""Start the dashboard."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bit_transformer.cli.parsing import parse
from bit_transformer.extras import extra_imports


@dataclass(frozen=True)
class DashboardArguments:
    """Show a management server in a browser: train, generate, review and share models.

    The default address accepts connections from this machine only. The browser never receives the
    token of the management server.
    """

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 5000
    """Port to listen on."""
    server: str | None = None
    """Address of the management server. Without it: MCP_SERVER_ADDR, or http://127.0.0.1:7000."""
    token: str | None = None
    """Token of the management server. Without it: BIT_TRANSFORMER_TOKEN, or the token in --runs."""
    runs: Path = Path("runs")
    """Runs folder of the management server, which holds its token."""
    password: str | None = None
    """Password of visitors. Without it: BIT_TRANSFORMER_PASSWORD. An address that other machines
    can reach needs one."""
    allow_host: tuple[str, ...] = ()
    """Other Host headers to accept besides the address, such as example.org:5000."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(DashboardArguments, words, command="dashboard")
    with extra_imports(extra="dashboard", purpose="the dashboard"):
        from bit_transformer.server.access.origins import host_in_url
        from bit_transformer.server.client import find_address, find_token
        from bit_transformer.server.dashboard.app import (
            PASSWORD_VARIABLE,
            DashboardConfig,
            run_dashboard,
        )
    password = arguments.password or os.environ.get(PASSWORD_VARIABLE)
    place = DashboardConfig(arguments.host, arguments.port, arguments.allow_host, password)
    address = find_address(arguments.server)
    url = f"http://{host_in_url(place.host)}:{place.port}"
    print(f"Dashboard of {address} on {url}, stop with Ctrl-C", flush=True)
    run_dashboard(place, address, lambda: arguments.token or find_token(arguments.runs))
