"""Every command of docs/tour.md runs, on a smaller model."""

import os
import shutil
import socket

import pytest

from scripts.make_tour import BLOCK, PAGE, ROOT, TRAIN, run_tour, tour_script, with_outputs

TOUR = PAGE.read_text(encoding="utf-8")
SMALL = "--steps 20 --batch-size 4 --num-layers 2 "


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_outputs_are_written_below_their_commands():
    page = "```bash\na\n```\n\n```text\nold\n```\n\n```python\nb\n```\n\nc\n"
    new = with_outputs(page, ["new  \n\n", "none"], keep_run=False)
    assert new == page.replace("old", "new")


def test_the_output_of_each_command_is_shown():
    assert all(shown.strip() for _, code, shown in BLOCK.findall(TOUR) if shown)
    assert sum(bool(shown) for *_, shown in BLOCK.findall(TOUR)) >= 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_of_the_tour_runs(tmp_path, monkeypatch):
    # While this variable is set, NiceGUI behaves as if it ran inside a test.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("bit_transformer", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=skip)
    shutil.copy(ROOT / "LICENSE", tmp_path)
    server, dashboard = free_port(), free_port()
    script = (
        tour_script(TOUR)
        .replace(TRAIN, TRAIN + SMALL)
        .replace("bit-transformer serve", f"bit-transformer serve --port {server}")
        .replace("bit-transformer dashboard", f"bit-transformer dashboard --port {dashboard}")
        .replace("127.0.0.1:7000", f"127.0.0.1:{server}")
        .replace("127.0.0.1:5000", f"127.0.0.1:{dashboard}")
    )
    address = f"http://127.0.0.1:{server}"
    outputs = run_tour(script, tmp_path, {"MCP_SERVER_ADDR": address, "OMP_NUM_THREADS": "1"})
    assert len(outputs) == len(BLOCK.findall(TOUR))
    assert any("identical" in output for output in outputs)
    assert outputs[-1].strip() == "200"
    assert (tmp_path / "tour" / "mixed.png").stat().st_size > 10_000
    assert os.listdir(tmp_path / "runs") == ["tour"] or (tmp_path / "runs" / ".server").is_dir()
