"""Tests of the repository as a whole: imports, public names, contents lists and wording."""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import bit_transformer

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bit_transformer"
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = [
    "datasets",
    "fastapi",
    "huggingface_hub",
    "matplotlib",
    "mcp",
    "nicegui",
    "pytorch_optimizer",
    "river",
    "sklearn",
    "starlette",
    "tensorboard",
    "torch.distributed.fsdp",
    "trackio",
    "transformers",
    "tyro",
    "uvicorn",
    "watchfiles",
]


def _tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_importing_the_package_pulls_in_nothing_optional():
    code = f"import sys, bit_transformer; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_importing_the_package_loads_no_library_at_all():
    libraries = ["torch", "numba", "numpy", "rich", "tyro", "pydantic", "jaxtyping"]
    code = f"import sys, bit_transformer; print([m for m in {libraries} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_every_public_name_exists_and_is_listed_once():
    names = bit_transformer.__all__
    assert not [name for name in names if not hasattr(bit_transformer, name)]
    assert len(names) == len(set(names))
    assert set(names) <= set(dir(bit_transformer))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = bit_transformer.no_such_name


def test_the_type_checker_sees_every_public_name_where_the_interpreter_finds_it():
    tree = ast.parse(Path(bit_transformer.__file__).read_text(encoding="utf-8"))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and not node.orelse and isinstance(node.test, ast.Name)
    )
    seen = {
        alias.name: str(node.module).removeprefix("bit_transformer.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == bit_transformer._HOMES
    assert sorted(seen) == sorted(bit_transformer.__all__)


def test_the_version_is_defined_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    home = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert f'__version__ = "{bit_transformer.__version__}"' in home


def test_the_tree_names_every_entry_of_the_top_level_and_of_the_package():
    page = (ROOT / "docs" / "reading-the-code.md").read_text()
    entries = {path.relative_to(ROOT).parts[0] for path in _tracked_files()}
    hidden = {name for name in entries if name.startswith(".")}
    entries |= {
        path.relative_to(PACKAGE).parts[0] for path in _tracked_files() if PACKAGE in path.parents
    }
    assert not [name for name in entries - hidden if name not in page]


def _contents(package: Path) -> set[str]:
    """Return the names of the modules and subpackages of a package."""
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in package.glob("*/__init__.py")}


_NAMES = r"^ *((?:[a-z_]\w*/?(?:, )?)+)"


@pytest.mark.parametrize("package", PACKAGES, ids=_relative)
def test_the_docstring_of_every_package_is_its_table_of_contents(package):
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    begin_lines = re.findall(_NAMES + " ", docstring, re.MULTILINE)
    # Prose has no two spaces in a row, so these lines are entries.
    entries = re.findall(_NAMES + "  ", docstring, re.MULTILINE)
    words, listed = (
        {name.rstrip("/") for line in lines for name in line.split(", ")}
        for lines in (begin_lines, entries)
    )
    assert not (missing := _contents(package) - words), f"not listed: {sorted(missing)}"
    assert not (stale := listed - _contents(package)), f"do not exist: {sorted(stale)}"


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def _texts(source: str) -> Iterator[str]:
    """Yield every docstring, comment and string as one line. Neighbouring comments are one text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = (str(p.value) if isinstance(p, ast.Constant) else "..." for p in node.values)
            yield " ".join("".join(parts).split())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(node.value.split())
    comments: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.append(token.string.lstrip("# "))
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            yield " ".join(comments)
            comments.clear()


def test_no_docstring_begins_with_of_or_what():
    found = [
        f"{_relative(path)}: {text}"
        for path in MODULES
        for text in _docstrings(ast.parse(path.read_text("utf-8")))
        if re.match(r"\s*(Of|What)\b", text)
    ]
    assert not found, "\n".join(found)


# "Y is no X" is written "Y is not an X". Three uses are ordinary English: "there is no X" (X does
# not exist), "is no longer X" (it was X before) and "is no better than X" (a comparison).
_IS_NO = re.compile(r"(?<!\bthere) (?:is|are) no (?!longer\b|better than\b)", re.IGNORECASE)


def test_no_text_says_that_something_is_no_something():
    found = [
        f"{_relative(path)}: {text}"
        for path in MODULES
        for text in _texts(path.read_text("utf-8"))
        if _IS_NO.search(text)
    ]
    assert not found, "\n".join(found)


def test_no_file_names_a_registry_or_a_place_on_a_machine():
    forbidden = re.compile(
        "|".join(
            [
                "py" + r"pi\.org",
                "python" + "hosted",
                "registry" + r"\.npmjs",
                "deb" + r"\.debian",
                "/wo" + "rk/",
            ]
        )
    )
    found = []
    for path in _tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [str(path) for _ in [0] if forbidden.search(text)]
    assert not found
