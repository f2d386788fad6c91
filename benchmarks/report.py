"""Write dated results with machine, commit and command, as JSON and as a Markdown table."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """Describe the machine that the figures are measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def without_folders(word: str) -> str:
    """Turn `a/b.txt+c/d.xls` into `b.txt+d.xls`."""
    return "+".join(Path(part).name for part in word.split("+"))


def write_result(
    name: str,
    *,
    summary: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    details: Mapping[str, Any],
) -> Path:
    """Write `results/DATE-name.json` and `.md`, print the table and return its path."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    origin = {
        "date": now.isoformat(timespec="minutes"),
        "commit": _commit(),
        "command": _command(),
        "machine": machine(),
    }
    path = RESULTS / f"{now:%Y-%m-%d}-{name}"
    document = {**origin, "summary": summary, "columns": columns, "rows": rows, **details}
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    table = _table(columns, rows)
    facts = "\n".join(f"- {key}: {value}" for key, value in origin.items())
    path.with_suffix(".md").write_text(f"# {name}\n\n{summary}\n\n{table}\n\n{facts}\n")
    print(f"\n{summary}\n\n{table}\n\n{path.with_suffix('.md')}")
    return path.with_suffix(".md")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [[_shown(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(cell: Any) -> str:
    if isinstance(cell, float) or (isinstance(cell, int) and cell >= 10**7):
        return f"{cell:.3g}" if abs(cell) < 0.01 or abs(cell) >= 1000 else f"{cell:.3f}"
    return "" if cell is None else str(cell)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def _command() -> str:
    """The command line without folders, because results are published."""
    script, *arguments = sys.argv
    root = Path(__file__).resolve().parent.parent
    relative = Path(script).resolve().relative_to(root)
    return " ".join(["python", str(relative), *map(without_folders, arguments)])


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return found.stdout.strip() or "unknown"
