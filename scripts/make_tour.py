"""Run every command of docs/tour.md in order, and write what each prints into the page.

    python scripts/make_tour.py [--keep-run]

A block of bash or Python may be followed by a block of text, which is its output. The commands run
in the root of this clone, on ports 7000 and 5000. They replace the folders tour/ and runs/tour;
with --keep-run the tour uses the run that is there and does not train again.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tour.md"
BLOCK = re.compile(r"```(bash|python)\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
SEPARATOR = "\x1e"
TRAIN = "bit-transformer train "
# The server and the dashboard run in the background until the tour ends.
PROLOGUE = "trap 'kill $(jobs -p) 2>/dev/null || true; wait || true' EXIT\n"


def tour_script(page: str) -> str:
    """Return all blocks as one bash script that prints a separator after each."""
    blocks = [
        code if language == "bash" else f"python - <<'END_OF_PYTHON'\n{code}END_OF_PYTHON\n"
        for language, code, _ in BLOCK.findall(page)
    ]
    return PROLOGUE + f"printf '{SEPARATOR}'\n".join(blocks)


def run_tour(script: str, folder: Path, variables: Mapping[str, str]) -> list[str]:
    """Run the script in `folder`; return what each block prints to standard output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **variables}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        # The model may generate bytes that are not text.
        errors="replace",
        check=True,
    )
    return done.stdout.split(SEPARATOR)


def with_outputs(page: str, outputs: list[str], *, keep_run: bool) -> str:
    """Return the page with the new outputs; blocks without a block of text stay so."""
    remaining = iter(outputs)

    def block(match: re.Match[str]) -> str:
        language, code, old = match.groups()
        output = next(remaining)
        if old is None or (keep_run and TRAIN in code):
            return match[0]
        lines = "\n".join(line.rstrip() for line in output.strip("\n").splitlines())
        return f"```{language}\n{code}```\n\n```text\n{lines}\n```\n"

    return BLOCK.sub(block, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep-run", action="store_true", help="do not train again")
    keep_run: bool = parser.parse_args().keep_run
    page = PAGE.read_text(encoding="utf-8")
    script = tour_script(page)
    shutil.rmtree(ROOT / "tour", ignore_errors=True)
    if keep_run:
        script = script.replace(TRAIN, f"true {TRAIN}")
    else:
        shutil.rmtree(ROOT / "runs" / "tour", ignore_errors=True)
    outputs = run_tour(script, ROOT, {})
    PAGE.write_text(with_outputs(page, outputs, keep_run=keep_run), encoding="utf-8")


if __name__ == "__main__":
    main()
