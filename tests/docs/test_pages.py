"""Links, pictures, commands, Python code and figures in README.md and docs/ are valid."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.completion import TABLE
from scripts import make_cli_docs

ROOT = Path(__file__).resolve().parent.parent.parent
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"')
FLAGS = {name: set(takes) for name, takes in json.loads(TABLE.read_text("utf-8")).items()}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield each local link of a page as a file and an anchor, which may be empty."""
    for groups in LINK.findall(re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)):
        target = "".join(groups)
        if not re.match(r"[a-z]+://|mailto:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page: Path) -> set[str]:
    """Return the anchors that a Markdown renderer derives from the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_somewhere(page):
    found = list(links(page))
    assert not [str(path) for path, _ in found if not path.is_file()]
    assert not [anchor for path, anchor in found if anchor and anchor not in anchors(path)]


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = {README}, [README]
    while waiting:
        for path, _ in links(waiting.pop()):
            if path.suffix == ".md" and path not in reached:
                reached.add(path)
                waiting.append(path)
    assert not set(PAGES) - reached


def test_every_picture_is_used_and_the_drawn_ones_are_small():
    used = {path for page in PAGES for path, _ in links(page)}
    assert not {path for path in DOCS.rglob("*") if path.suffix in (".png", ".svg")} - used
    drawn = list((DOCS / "images").iterdir())
    assert drawn
    assert not [path.name for path in drawn if path.stat().st_size >= 150_000]


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each `bit-transformer` command in a block of shell code."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars=";<>|&\n")
    lexer.whitespace, lexer.whitespace_split = " \t", True
    words: list[str] | None = None
    for word in [*lexer, "\n"]:
        if word == "bit-transformer" or set(word) <= set(";<>|&\n"):
            if words is not None:
                yield words
            words = [] if word == "bit-transformer" else None
        elif words is not None:
            words.append(word)


def test_commands_are_found_in_shell():
    script = "A=1 bit-transformer score RUN 'a b' | cat  # c\nbit-transformer gate \\\n  X &\n"
    assert list(commands(script)) == [["score", "RUN", "a b"], ["gate", "X"]]


@each_page
def test_every_command_and_flag_exists(page):
    for script in blocks(page, "bash"):
        for command, *words in commands(script):
            if command not in ("COMMAND", "--help", "--version"):
                assert command in COMMANDS
                flags = {word.partition("=")[0] for word in words if re.match("--[a-z]", word)}
                assert flags <= FLAGS[command]


def test_pages_that_show_commands_are_checked():
    shown = [page.name for page in PAGES if any(map(list, map(commands, blocks(page, "bash"))))]
    assert {"README.md", "tour.md", "hub.md", "server.md"} <= set(shown)


@each_page
def test_all_python_imports_names_that_exist(page):
    for program in blocks(page, "python"):
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("bit_transformer"):
                module = import_module(str(node.module))
                assert not [one.name for one in node.names if not hasattr(module, one.name)]


def test_the_commands_page_is_current():
    # `python scripts/make_cli_docs.py` writes this page.
    assert text_of(make_cli_docs.PAGE) == make_cli_docs.written()


@pytest.mark.parametrize("page", [DOCS / "reading-the-code.md", DOCS / "results.md"])
def test_every_file_that_a_page_names_exists(page):
    named = re.findall(
        r"`((?:bit_transformer|tests|benchmarks|docs|scripts)/[\w./-]+)`", text_of(page)
    )
    named += [f"benchmarks/{script}" for script in re.findall(r"bench_\w+\.py", text_of(page))]
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_benchmark_is_on_the_page_of_results():
    scripts = {path.name for path in (ROOT / "benchmarks").glob("bench_*.py")}
    assert scripts <= set(re.findall(r"bench_\w+\.py", text_of(DOCS / "results.md")))


def test_the_figures_of_the_readme_are_those_of_the_results():
    rows = re.findall(r"^\| .*\|.*`(?:make|python) .*\|$", text_of(README), re.MULTILINE)
    assert len(rows) == 4
    figure = re.compile(r"\d+(?:\.\d+)?(?:e\d+)?")
    results = set(figure.findall(text_of(DOCS / "results.md")))
    for row in rows:
        *cells, command, _ = row.split("|")
        assert set(figure.findall("|".join(cells))) <= results
        script = command.strip(" `").removeprefix("python benchmarks/")
        assert f"`{script}`" in text_of(DOCS / "results.md")


def test_the_readme_is_short():
    assert len(text_of(README).encode()) < 6000
