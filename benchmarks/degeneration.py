"""Labelled windows of clean and degenerate data, all drawn from fixed seeds.

A window is a prompt and its continuation. In a clean window the document goes on. In a degenerate
one it stops going on at `onset`. Kinds of documents: English, source code, tables, logs, base64,
spreadsheets. Kinds of degeneration: loops, stutter, verbatim copies of the prompt, gibberish,
random bytes, drift to another format, drift to another language, and decay that begins half-way.
"""

import base64
import string
import sysconfig
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

Random = np.random.Generator

PROMPT = 192
"""Bytes of prompt in a window."""
BODY = 192
"""Bytes after the prompt."""
_KIND_BYTES = 1_500_000

OTHER_LANGUAGES = Path(__file__).with_name("other_languages.txt")
"""First articles of the Universal Declaration of Human Rights, one paragraph per language."""


@dataclass(frozen=True)
class Window:
    """A prompt with its continuation, and its label."""

    kind: str
    """Kind of the document that the prompt is from."""
    fault: str | None
    """Kind of degeneration. None for a clean window."""
    data: bytes
    """PROMPT + BODY bytes."""
    onset: int
    """Index of the first degenerate byte in `data`. The length of `data` for a clean window."""


Documents = dict[str, list[bytes]]
"""Documents by kind. Every document is long enough for a window."""


def documents(files: Sequence[Path], tenths: Collection[int]) -> Documents:
    """The documents in the given tenths of each kind. All ten tenths have about 1.5 MB of a kind.

    `files` replace the built-in English and the generated spreadsheets (`.xls`).
    """
    texts = [path for path in files if path.suffix != ".xls"]
    sheets = [path for path in files if path.suffix == ".xls"]
    made = {
        "English": _chapters(texts or [_stdlib() / "pydoc_data" / "topics.py"]),
        "code": _modules(),
        "tables": _made(_table, 1),
        "logs": _made(_log, 2),
        "base64": _made(_base64, 3),
        "spreadsheets": _chapters(sheets) if sheets else _made(_records, 4),
    }
    return {
        kind: [
            text
            for index, text in enumerate(found)
            if index % 10 in tenths and len(text) >= PROMPT + BODY
        ]
        for kind, found in made.items()
    }


def clean_windows(texts: Documents, each: int, seed: int) -> list[Window]:
    """Draw `each` windows of every kind."""
    rng = np.random.default_rng([seed, 1])
    return [
        Window(kind, None, _cut(rng, texts[kind], PROMPT + BODY), PROMPT + BODY)
        for kind in texts
        for _ in range(each)
    ]


def degenerate_windows(texts: Documents, each: int, seed: int) -> list[Window]:
    """Draw `each` windows of every fault. Their prompts come from all kinds in turn."""
    rng = np.random.default_rng([seed, 2])
    kinds = list(texts)
    windows = []
    for fault in FAULTS:
        for index in range(each):
            kind = kinds[index % len(kinds)]
            source = _cut(rng, texts[kind], PROMPT + BODY)
            windows.append(_faulty(fault, kind, source, texts, rng))
    return windows


def _faulty(fault: str, kind: str, source: bytes, texts: Documents, rng: Random) -> Window:
    prompt, body = source[:PROMPT], source[PROMPT:]
    if fault != "decay half-way":
        bad = FAULTS[fault](rng, prompt, kind, texts)
        return Window(kind, fault, (prompt + bad)[: PROMPT + BODY], PROMPT)
    half = BODY // 2
    inner = [name for name in FAULTS if name != fault][rng.integers(len(FAULTS) - 1)]
    before = (prompt + body[:half])[-PROMPT:]
    bad = FAULTS[inner](rng, before, kind, texts)
    return Window(kind, fault, (prompt + body[:half] + bad)[: PROMPT + BODY], PROMPT + half)


def _loop(rng: Random, prompt: bytes, kind: str, texts: Documents) -> bytes:
    """Repeat the end of the prompt with a period of 1 to 64 bytes, uniform in its logarithm."""
    period = round(2 ** rng.uniform(0, 6))
    return _repeated(prompt[-period:], BODY)


def _stutter(rng: Random, prompt: bytes, kind: str, texts: Documents) -> bytes:
    """Words of the document, each three to six times."""
    words = _cut(rng, texts[kind], BODY).split(b" ")
    pieces = [word[:24] + b" " for word in words]
    return b"".join(piece * int(rng.integers(3, 7)) for piece in pieces).ljust(BODY, b" ")


def _copy(rng: Random, prompt: bytes, kind: str, texts: Documents) -> bytes:
    """Repeat the prompt from its beginning."""
    return _repeated(prompt, BODY)


def _gibberish(rng: Random, prompt: bytes, kind: str, texts: Documents) -> bytes:
    """Words of random letters, or bytes of the document in random order.

    Shuffled base64 is valid base64, so documents in base64 always get words.
    """
    if rng.random() < 0.5 and kind != "base64":
        shuffled = rng.permutation(np.frombuffer(_cut(rng, texts[kind], BODY), np.uint8))
        return bytes(shuffled.tobytes())
    letters = np.array(list(string.ascii_lowercase))
    words = ("".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(BODY))
    return " ".join(words).encode()[:BODY]


def _random(rng: Random, prompt: bytes, kind: str, texts: Documents) -> bytes:
    return rng.bytes(BODY)


def _format_drift(rng: Random, prompt: bytes, kind: str, texts: Documents) -> bytes:
    """Continue with another kind of document."""
    others = [name for name in texts if name != kind]
    return _cut(rng, texts[others[rng.integers(len(others))]], BODY)


def _language_drift(rng: Random, prompt: bytes, kind: str, texts: Documents) -> bytes:
    """Continue with prose in a language that occurs in none of the documents."""
    paragraphs = OTHER_LANGUAGES.read_bytes().split(b"\n\n")
    paragraph = paragraphs[rng.integers(len(paragraphs))]
    return _cut(rng, [paragraph.replace(b"\n", b" ")], BODY)


Fault = Callable[[Random, bytes, str, Documents], bytes]
FAULTS: dict[str, Fault] = {
    "loop": _loop,
    "stutter": _stutter,
    "prompt copy": _copy,
    "gibberish": _gibberish,
    "random bytes": _random,
    "format drift": _format_drift,
    "language drift": _language_drift,
    "decay half-way": _loop,
}
"""Functions that make the bytes after the onset. `decay half-way` draws one of the others."""


def _table(rng: Random) -> bytes:
    """A CSV file of a few dozen rows."""
    columns = [_column(rng) for _ in range(int(rng.integers(3, 8)))]
    rows = [",".join(name for name, _ in columns)]
    rows += [",".join(draw(row) for _, draw in columns) for row in range(int(rng.integers(20, 60)))]
    return ("\n".join(rows) + "\n\n").encode()


_CITIES = [
    "Oslo",
    "Lima",
    "Cairo",
    "Quito",
    "Hanoi",
    "Tunis",
    "Delhi",
    "Turin",
    "Porto",
    "Leeds",
    "Accra",
    "Kyoto",
    "Basel",
    "Ghent",
]
_LEVELS = ("INFO", "INFO", "INFO", "DEBUG", "WARNING", "ERROR")
_ACTIONS = (
    "GET /api/v1/items/{n} 200 {m}ms",
    "POST /api/v1/orders 201 {m}ms",
    "GET /static/{w}.js 304 {m}ms",
    "connection from 10.{a}.{b}.{c} closed after {m}ms",
    "job {w}-{n} finished in {m}ms",
    "retrying {w} (attempt {a}): timeout after {m}ms",
    "user {n} logged in from 192.168.{b}.{c}",
    "cache miss for key {w}:{n}",
)
_WORDS = [
    "index",
    "session",
    "upload",
    "worker",
    "report",
    "parser",
    "mailer",
    "billing",
    "search",
    "gateway",
    "archive",
]


def _column(rng: Random) -> tuple[str, Callable[[int], str]]:
    start, mean, spread = rng.integers(1000), rng.uniform(1, 500), rng.uniform(0.5, 60)
    day = datetime(2020, 1, 1) + timedelta(days=int(rng.integers(1500)))
    columns: list[tuple[str, Callable[[int], str]]] = [
        ("id", lambda row: str(start + row)),
        ("price", lambda row: f"{rng.normal(mean, spread):.2f}"),
        ("quantity", lambda row: str(rng.poisson(mean))),
        ("city", lambda row: str(rng.choice(_CITIES))),
        ("date", lambda row: f"{day + timedelta(days=row):%Y-%m-%d}"),
        ("ratio", lambda row: f"{rng.random():.4f}"),
        ("status", lambda row: str(rng.choice(["open", "closed", "pending"]))),
    ]
    return columns[rng.integers(len(columns))]


def _log(rng: Random) -> bytes:
    """The log of a service over some minutes."""
    now = datetime(2024, 1, 1) + timedelta(seconds=int(rng.integers(10**7)))
    lines = []
    for _ in range(int(rng.integers(30, 120))):
        now += timedelta(milliseconds=int(rng.exponential(900)))
        a, b, c = (int(value) for value in rng.integers(1, 255, 3))
        n, m = int(rng.integers(1, 99_999)), int(rng.exponential(80)) + 1
        word = str(rng.choice(_WORDS))
        action = str(rng.choice(_ACTIONS)).format(n=n, m=m, w=word, a=a, b=b, c=c)
        stamp = now.isoformat(sep=" ", timespec="milliseconds")
        lines.append(f"{stamp} {rng.choice(_LEVELS)} [{word}] {action}")
    return ("\n".join(lines) + "\n").encode()


def _base64(rng: Random) -> bytes:
    """Random bytes in base64, in lines of 76 characters as in e-mail (RFC 2045)."""
    return base64.encodebytes(rng.bytes(int(rng.integers(400, 1600))))


def _records(rng: Random) -> bytes:
    """Cells of a binary spreadsheet (BIFF8): type, length, row, column, format, number."""
    cells = []
    first = int(rng.integers(2000))
    for row in range(first, first + int(rng.integers(5, 20))):
        for column in range(int(rng.integers(4, 12))):
            head = np.array([0x0203, 14, row, column, 15], "<u2").tobytes()
            cells.append(head + np.float64(round(rng.normal(100, 40), 2)).tobytes())
    return b"".join(cells)


def _stdlib() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _chapters(files: Sequence[Path]) -> list[bytes]:
    """The beginnings of all files, in equal shares, cut into pieces of 8 KiB."""
    share = max(1, _KIND_BYTES // len(files))
    texts = [path.read_bytes()[:share] for path in files]
    return [text[at : at + 8192] for text in texts for at in range(0, len(text), 8192)]


def _modules() -> list[bytes]:
    """The beginnings of the standard library's modules."""
    folders = (_stdlib(), *(_stdlib() / name for name in ("asyncio", "email", "json", "unittest")))
    paths = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return [path.read_bytes()[:8192] for path in paths]


def _made(make: Callable[[Random], bytes], seed: int) -> list[bytes]:
    """Generate documents until they have `_KIND_BYTES` bytes."""
    rng = np.random.default_rng([seed, 0])
    found: list[bytes] = []
    while sum(map(len, found)) < _KIND_BYTES:
        found.extend(make(rng) for _ in range(50))
    return found


def _repeated(piece: bytes, size: int) -> bytes:
    return (piece * (size // len(piece) + 1))[:size]


def _cut(rng: Random, texts: Sequence[bytes], size: int) -> bytes:
    """Cut `size` bytes out of a document. Every position in every document is equally likely."""
    sizes = np.array([max(0, len(text) - size + 1) for text in texts])
    text = texts[rng.choice(len(texts), p=sizes / sizes.sum())]
    start = int(rng.integers(len(text) - size + 1))
    return text[start : start + size]
