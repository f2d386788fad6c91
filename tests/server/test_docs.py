"""Every example in docs/server.md runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bit_transformer.cli.main import COMMANDS
from bit_transformer.server.operations import OPERATIONS
from tests.server.conftest import TEXT, TOKEN

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")


def test_every_operation_has_its_place_on_the_page():
    table = re.sub(r"\{\w+\}", "{}", PAGE)
    for operation in OPERATIONS.values():
        path = re.sub(r"\{\w+\}", "{}", operation.path)
        assert path in table or f".../{path.rsplit('/', 1)[1]}" in table, operation.name
    for command in re.findall(r"^bit-transformer (\w+)", PAGE, re.MULTILINE):
        assert command in COMMANDS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_examples_run(working, tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = "\n".join(blocks).replace("bit-transformer serve ", "true ")
    call = f'bit-transformer() {{ {sys.executable} -m bit_transformer "$@"; }}\n'
    (tmp_path / "corpus.txt").write_bytes(TEXT)
    assert working.root == tmp_path / "runs"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MCP_SERVER_ADDR": working.url,
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", call + lines],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (working.engine.workspace.files / "again.txt").read_bytes() == TEXT
    assert '"state": "done"' in done.stdout
    assert TOKEN not in done.stdout
