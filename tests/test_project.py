"""What the project promises about itself."""

import re
import subprocess
import sys
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


def test_every_public_name_exists_and_is_listed_once():
    names = bit_transformer.__all__
    assert not [name for name in names if not hasattr(bit_transformer, name)]
    assert len(names) == len(set(names))


def test_the_readme_names_every_entry_of_the_top_level():
    readme = (ROOT / "README.md").read_text()
    entries = {path.relative_to(ROOT).parts[0] for path in _tracked_files()}
    hidden = {name for name in entries if name.startswith(".")}
    assert not [name for name in entries - hidden if name not in readme]


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
