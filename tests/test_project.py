"""What the project promises about itself."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bit_transformer

ROOT = Path(__file__).resolve().parent.parent
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


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    home = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert f'__version__ = "{bit_transformer.__version__}"' in home


def test_the_tree_names_every_entry_of_the_top_level_and_of_the_package():
    page = (ROOT / "docs" / "reading-the-code.md").read_text()
    entries = {path.relative_to(ROOT).parts[0] for path in _tracked_files()}
    hidden = {name for name in entries if name.startswith(".")}
    package = ROOT / "bit_transformer"
    entries |= {
        path.relative_to(package).parts[0] for path in _tracked_files() if package in path.parents
    }
    assert not [name for name in entries - hidden if name not in page]


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
