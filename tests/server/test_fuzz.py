"""Schemathesis generates random requests from the server's OpenAPI document."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bit_transformer.server.settings import Limits
from tests.server.conftest import TOKEN, launch_done, serving

CASES = 2000
# These two checks need more than a JSON schema can express, such as fields that exclude each other.
BEYOND_SCHEMAS = "positive_data_acceptance,negative_data_rejection"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_request_breaks_the_server_or_gets_an_undocumented_answer(runs, tmp_path):
    limits = Limits(requests_per_second=1e6, burst=10**6, queued=40)
    with serving(runs, limits, launch_done) as served:
        tested = subprocess.run(
            [
                *(Path(sys.executable).parent / "st", "run", f"{served.url}/openapi.json"),
                *("-H", f"Authorization: Bearer {TOKEN}", "--max-examples", "40", "--no-color"),
                *("--seed", "0"),
                *("--exclude-checks", BEYOND_SCHEMAS, "--continue-on-failure"),
                # An event stream stays open as long as its job or run.
                *("--exclude-path-regex", "/events$", "--request-timeout", "120"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert served.ask("GET", "/status")[0] == 200
    told = tested.stdout[-6000:]
    assert tested.returncode == 0, told
    generated = re.search(r"(\d+) generated", told)
    assert generated, told
    assert int(generated[1]) >= CASES
