"""Check the size budgets of the package: short functions, short files, names that say something."""

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "bit_transformer"
MAX_FUNCTION, LONG_FUNCTION, MAX_LONG_SHARE, MAX_FILE = 80, 40, 0.1, 400
CATCH_ALL_NAMES = {"utils", "common", "helpers", "misc"}
# Documented names of an earlier system, kept as thin imports.
SHIMS = {PACKAGE / "utils.py"}


def function_lengths(path: Path) -> list[tuple[int, str]]:
    """Return (lines, place) of every function in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def complaints() -> list[str]:
    """Return a line for everything that is over its budget."""
    files = sorted(PACKAGE.rglob("*.py"))
    functions = [function for path in files for function in function_lengths(path)]
    found = [
        f"{place}: {n} lines, at most {MAX_FUNCTION}" for n, place in functions if n > MAX_FUNCTION
    ]
    long = [place for n, place in functions if n >= LONG_FUNCTION]
    if len(long) > MAX_LONG_SHARE * len(functions):
        found.append(
            f"more than {MAX_LONG_SHARE:.0%} of functions not under {LONG_FUNCTION} lines: {long}"
        )
    for path in files:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE:
            found.append(f"{path}: {lines} lines, at most {MAX_FILE}; make it a folder")
        names = {path.stem, *path.relative_to(PACKAGE).parent.parts}
        if names & CATCH_ALL_NAMES and path not in SHIMS:
            found.append(f"{path}: catch-all name; name it after what it does")
    return found


if __name__ == "__main__":
    problems = complaints()
    print("\n".join(problems) or f"size budgets hold in {PACKAGE.name}/")
    sys.exit(bool(problems))
