"""The examples and the Python code of the README run unchanged."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_quickstart_runs(capsys):
    module = runpy.run_path(str(ROOT / "examples" / "quickstart.py"))
    module["main"](steps=2)
    assert module["LICENSE"].stat().st_size > 30_000, "too little text to learn from"
    printed = capsys.readouterr().out
    assert "held out:" in printed
    assert printed.count("bits per byte:") == 2


def test_the_own_loop_runs(capsys):
    module = runpy.run_path(str(ROOT / "examples" / "own_loop.py"))
    module["main"](steps=2)
    assert capsys.readouterr().out.count("bits per byte") == 2


def test_the_python_of_the_readme_runs():
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    program = program.replace("steps=50", "steps=2")
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
