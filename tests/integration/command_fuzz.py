"""Random command lines with inputs, environments and signals.

`case(seed, number)` is deterministic, so that a failure can be reproduced from its number.
`command_judge` runs a case and judges the result.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.completion import Takes, table

Words = list[bytes]


@dataclass(frozen=True)
class Input:
    """A file or folder that exists before the command starts."""

    name: bytes
    kind: str


@dataclass
class Case:
    """Everything that is decided about one process."""

    number: int
    words: Words = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    environment: dict[str, str | None] = field(default_factory=dict)
    """A value of None unsets the variable."""
    stdin: str = "empty"
    stdout: str = "pipe"
    stderr: str = "pipe"
    signal: tuple[str, float] | None = None
    """Name of a signal, and the delay in seconds after the process has set its handlers."""
    file_limit: int | None = None
    """Largest file size in blocks (ulimit -f), which stands for a full disk."""
    usage_error: bool | None = None
    """Whether the process must end with a usage error. None allows both."""
    replaced: set[bytes] = field(default_factory=set)
    """Inputs that the command may change or remove."""


FILES = (
    *("text",) * 6,
    *("empty", "one", "binary", "bom", "packed", "packed", "packed_twice", "packed_cut"),
    *("packed_flipped", "folder", "link", "dangling", "fifo", "unreadable", "locked_folder"),
)
PACKED = ("packed", "packed", "packed", "packed_twice", "packed_cut", "packed_flipped", "text")
RUNS = (
    *("run",) * 14,
    *("run_without_config", "run_cut_config", "run_cut_weights", "run_nan", "run_in_use"),
    *("model", "folder", "text", "run_empty"),
)
TOML = (
    *("toml_good", "toml_bom", "toml_cut", "toml_unknown_key", "toml_unknown_section"),
    *("toml_wrong_type", "toml_infinite", "toml_binary", "toml_folder", "empty"),
)
NAMES: tuple[bytes, ...] = (
    *(b"a.txt", b"b.txt", b"file", b"plain.bin") * 3,
    *(b"with space.txt", b"-dash", b"--help", b"-", b"new\nline", b"caf\xe9.txt", b"\xff\xfe"),
    *("ł→.txt".encode(), b"n" * 250, b"[0-9]*.txt", b"~", b"$HOME", b".hidden", b"e\x1b[31m.txt"),
)
NUMBERS = (
    *(b"0", b"1", b"2", b"3", b"7", b"16", b"-1", b"-0", b"1_0", b"0x10", b"1e3", b"0.5", b"1.0"),
    *(b"nan", b"inf", b"-inf", b"1e-39", b"1e309", b"%d" % 2**31, b"%d" % 2**63, b"%d" % 2**64),
    *(b"", b" 1", b"1,5", b"one", b"9" * 5000, b"\xff", "٣".encode(), b"None", b"--", b"-"),
)
TEXTS = (
    *(b"", b"a", b"def ", b"caf\xe9", b"\xff" * 9, b"\xed\xa0\x80", "ł→🙂".encode(), b"x" * 9000),
    *(b"-x", b"--json", b"--", b"\\x0", b"\\n", b"a\nb", b"\x1b[2J", b"{}", b"[1", b"1 2"),
)
OUTPUTS = (
    *(b"out",) * 4,
    *(b"no/such/folder/out", b"/dev/null", b"/dev/full", b"-", b"./-", b"", b"old", b"old"),
    *(b"o" * 250, b"o" * 256, b"ou\xe9t\n", b".", b"/proc/version", b"old_folder"),
)
# The values of these flags decide how long a command runs, so they stay small.
PATIENT = {b"--steps", b"--samples", b"--new-bytes"}
# These flags need a hub, a GPU, a C++ compiler or another service, or they change too much.
NOT_TRIED = {
    *("--hf-repo", "--hf-token", "--compile", "--qat", "--trackio", "--tensorboard", "--host"),
    *("--server", "--help", "--help-all", "--debug", "--device", "--port", "--preset"),
}
TRAINING = tuple(
    b"--d-model=16 --nhead=2 --num-layers=1 --dim-feedforward=32 --max-seq-len=256 --steps=2 "
    b"--memory-slots=256 --batch-size=2 --evaluate-bytes=64 --device=cpu --window-bytes=16".split()
)
# Commands with a larger weight are tried more often. Those that load no model are quick.
WEIGHTS = {
    **{"compress": 22, "decompress": 22, "runs": 8, "review": 6, "completion": 3, "memory": 4},
    **{"generate": 7, "score": 6, "eval": 3, "telemetry": 3, "gate": 3, "quantize": 2, "train": 6},
    **{"call": 4, "serve": 1, "dashboard": 1},
}
SERVERS = ("serve", "dashboard")
"""Commands that run until a signal ends them."""


def case(seed: int, number: int) -> Case:
    """Return the case of this seed and number."""
    chance = random.Random(f"{seed} {number}")
    made = Case(number)
    [form] = chance.choices((_call, _mistyped_flag, _mistyped_command, _page), (80, 7, 4, 9))
    form(made, chance)
    _surroundings(made, chance)
    return made


def _call(made: Case, chance: random.Random) -> None:
    [command] = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
    made.words = [command.encode()]
    operands, flags = _OPERANDS[command](made, chance), _flags(made, chance, command)
    own = _OWN_FLAGS.get(command, lambda made, chance: [])(made, chance)
    made.words += _in_some_order(chance, operands, [*own, *flags])
    if chance.random() < 0.05:
        made.words.insert(chance.randint(0, len(made.words)), b"--debug")
    if command in SERVERS:
        made.signal = (_signal_name(chance), chance.random() * 4)


def _in_some_order(chance: random.Random, operands: Words, flags: list[Words]) -> Words:
    """Put flags before and after the operands, with -- before operands that need it."""
    groups = [*flags]
    chance.shuffle(groups)
    flat = [word for group in groups for word in group]
    if chance.random() < 0.15 or (operands and chance.random() < 0.8 and _dashed(operands)):
        return [*flat, b"--", *operands]
    at = chance.randint(0, len(groups))
    before = [word for group in groups[:at] for word in group]
    behind = [word for group in groups[at:] for word in group]
    return [*before, *operands, *behind]


def _dashed(operands: Words) -> bool:
    return any(word.startswith(b"-") and word != b"-" for word in operands)


def _mistyped_flag(made: Case, chance: random.Random) -> None:
    command = chance.choice(list(COMMANDS))
    names = [name for name in table()[command] if len(name) > 4]
    made.words = [command.encode(), _mistyped(chance, chance.choice(names).encode())]
    if made.words[1].decode("latin-1") in table()[command]:
        made.words[1] = b"--no-such-option"
    made.usage_error = True


def _mistyped_command(made: Case, chance: random.Random) -> None:
    word = _mistyped(chance, chance.choice(list(COMMANDS)).encode())
    word = chance.choice((word, word, word, *TEXTS))
    if word.decode("latin-1") in COMMANDS or word.startswith(b"-"):
        word = b"trian"
    made.words = [word, *chance.sample(TEXTS, chance.randint(0, 2))]
    made.usage_error = True


def _mistyped(chance: random.Random, word: bytes) -> bytes:
    at = chance.randint(2, len(word) - 1)
    middle = chance.choice((b"", b"xx", b"\xe9", b"Q", word[at : at + 1] * 2))
    return word[:at] + middle + word[at + 1 :]


def _page(made: Case, chance: random.Random) -> None:
    command = chance.choice(list(COMMANDS)).encode()
    page = chance.choice((b"-h", b"--help", b"--help-all"))
    made.words = chance.choice(
        (
            [command, page],
            [command, page],
            [command, *chance.sample(NUMBERS, 1), page],
            [page],
            [b"--version"],
            [b"-V"],
            [],
            [b"completion", chance.choice((b"bash", b"zsh", b"fish", b"csh"))],
            [b"--debug", page],
        )
    )
    made.usage_error = True if not made.words else None


def _flags(made: Case, chance: random.Random, command: str) -> list[Words]:
    """Choose some flags of a command, with valid and invalid values."""
    known = {name: takes for name, takes in table()[command].items() if name not in NOT_TRIED}
    count = min(len(known), chance.choice((0, 0, 0, 0, 1, 1, 2, 3)))
    return [_flag(made, chance, name, known[name]) for name in chance.sample(sorted(known), count)]


def _flag(made: Case, chance: random.Random, name: str, takes: Takes) -> Words:
    flag = name.encode()
    if takes == "nothing":
        return [flag] if chance.random() < 0.95 else [flag + b"=3"]
    value = _value(made, chance, flag, takes)
    if chance.random() < 0.03:
        return [flag]
    joined = flag.startswith(b"--") and chance.random() < 0.5
    return [flag + b"=" + value] if joined else [flag, value]


def _value(made: Case, chance: random.Random, flag: bytes, takes: Takes) -> bytes:
    if isinstance(takes, list):
        return chance.choice([*takes, *takes, takes[0][:-1], "x"]).encode()
    if flag in (b"--out", b"-o", b"--html"):
        return chance.choice(OUTPUTS)
    if flag == b"--config":
        return _input(made, chance, TOML)
    if takes == "path":
        return _input(made, chance, FILES)
    if flag in PATIENT:
        return chance.choice((b"0", b"1", b"3", b"8", b"-1", b"nan", b"", b"\xff", b"1e1", b"2"))
    if takes == "text":
        return chance.choice((*TEXTS, _input(made, chance, FILES)))
    return chance.choice(NUMBERS) if chance.random() < 0.6 else chance.choice((b"1", b"4", b"64"))


def _input(made: Case, chance: random.Random, kinds: Sequence[str]) -> bytes:
    """Add an input to the case and return its name. The input may be missing or an earlier one."""
    draw = chance.random()
    if draw < 0.06:
        return chance.choice((b"missing", b"runs/typo", b"", b"m" * 300, b"no/\xff", b"/dev/null"))
    if draw < 0.12 and made.inputs:
        return made.inputs[0].name
    kind, name = chance.choice(kinds), chance.choice(NAMES)
    if kind.startswith("packed") and chance.random() < 0.8:
        name = name[:240] + b".btz"
    taken = {one.name for one in made.inputs}
    while name in taken:
        name = name[:200] + b"%d" % chance.randint(0, 99)
    made.inputs.append(Input(name, kind))
    return b"./" + name if name == b"-" or chance.random() < 0.1 else name


def _one_of(kinds: Sequence[str]) -> Callable[[Case, random.Random], Words]:
    return lambda made, chance: [_input(made, chance, kinds)]


def _compressed(made: Case, chance: random.Random) -> Words:
    return _to_code(made, chance, FILES)


def _decompressed(made: Case, chance: random.Random) -> Words:
    return _to_code(made, chance, PACKED)


def _to_code(made: Case, chance: random.Random, kinds: Sequence[str]) -> Words:
    [count] = chance.choices((0, 1, 2, 3), (5, 75, 12, 8))
    operands = [_input(made, chance, kinds) for _ in range(count)]
    if chance.random() < 0.08:
        operands.insert(0, _input(made, chance, RUNS))
    if chance.random() < 0.06:
        operands.append(b"-")
    return operands


def _run_and(kinds: Sequence[str], most: int) -> Callable[[Case, random.Random], Words]:
    def operands(made: Case, chance: random.Random) -> Words:
        count = chance.randint(0 if most > 1 else 1, most)
        files = [_input(made, chance, kinds) for _ in range(count)]
        if files and chance.random() < 0.1:
            files[-1] = b"-"
        return [_input(made, chance, RUNS), *files]

    return operands


def _folder_or_nothing(made: Case, chance: random.Random) -> Words:
    return chance.choice(([], [b"."], [_input(made, chance, (*RUNS, "folder"))]))


def _review(made: Case, chance: random.Random) -> Words:
    action = chance.choice((b"list", b"show", b"approve", b"reject", b"lst", b""))
    return [action, chance.choice(TEXTS)] if chance.random() < 0.6 else [action]


def _trained(made: Case, chance: random.Random) -> Words:
    return [_input(made, chance, FILES) for _ in range(chance.choice((1, 1, 1, 2)))]


def _operation(made: Case, chance: random.Random) -> Words:
    return [chance.choice((b"health", b"list_runs", b"nothing", b"", b"\xff"))]


_OPERANDS: dict[str, Callable[[Case, random.Random], Words]] = {
    "compress": _compressed,
    "decompress": _decompressed,
    "runs": _folder_or_nothing,
    "review": _review,
    "completion": lambda made, chance: [chance.choice((b"bash", b"zsh", b"fish", b"sh", b""))],
    "memory": _trained,
    "train": _trained,
    "generate": _one_of(RUNS),
    "score": _run_and(FILES, 1),
    "eval": _run_and(FILES, 2),
    "telemetry": _run_and(FILES, 2),
    "gate": _run_and(FILES, 2),
    "quantize": _one_of(RUNS),
    "call": _operation,
    "serve": lambda made, chance: [],
    "dashboard": lambda made, chance: [],
}


def _train_flags(made: Case, chance: random.Random) -> list[Words]:
    flags = [[word] for word in TRAINING]
    if chance.random() < 0.2:
        run = _input(made, chance, RUNS)
        made.replaced.add(run.removeprefix(b"./"))
        return [[b"--resume"], [b"--out", run], [b"--steps", b"4"]]
    return [*flags, [b"--out", chance.choice(OUTPUTS)]]


_OWN_FLAGS: dict[str, Callable[[Case, random.Random], list[Words]]] = {
    "train": _train_flags,
    "memory": lambda made, chance: [[word] for word in TRAINING],
    "generate": lambda made, chance: [[b"--new-bytes", b"%d" % chance.randint(0, 30)]],
    "quantize": lambda made, chance: [[b"--out", chance.choice(OUTPUTS)]],
    "call": lambda made, chance: [[b"--server", b"http://127.0.0.1:9"]],
    "serve": lambda made, chance: [[b"--port", b"0"]],
    "dashboard": lambda made, chance: [[b"--port", b"0"]],
}
ENVIRONMENTS: tuple[dict[str, str | None], ...] = (
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "en_XX.nothing", "PYTHONUTF8": "0"},
    {"HOME": None},
    {"HOME": "/proc/nowhere"},
    {"HOME": ""},
    {"TMPDIR": "/no/such/folder"},
    {"COLUMNS": "1"},
    {"COLUMNS": "40"},
    {"COLUMNS": "100000"},
    {"COLUMNS": "-3", "LINES": "x"},
    {"OMP_NUM_THREADS": "0"},
    {"OMP_NUM_THREADS": "many"},
    {"OMP_NUM_THREADS": "3,2"},
    {"OMP_WAIT_POLICY": "sometimes"},
    {"TERM": "dumb"},
    {"TERM": None, "PATH": None},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONWARNINGS": "default"},
    {"NO_COLOR": "1", "FORCE_COLOR": "1"},
    {"XDG_CACHE_HOME": "relative"},
    {"NUMBA_NUM_THREADS": "1", "TZ": "Nowhere/At_All"},
)


def _surroundings(made: Case, chance: random.Random) -> None:
    """Choose streams, environment, signal and file limit. Most cases have at most one of them."""
    if chance.random() < 0.3:
        made.environment = dict(chance.choice(ENVIRONMENTS))
    if chance.random() < 0.015:
        made.environment["NUMBA_CACHE_DIR"] = "/proc/nowhere"
    if chance.random() < 0.3:
        made.stdin = chance.choice(("closed", "text", "packed", "file"))
    if chance.random() < 0.25:
        made.stdout = chance.choice(("closed", "full", "gone", "file"))
    if chance.random() < 0.06:
        made.stderr = chance.choice(("closed", "full", "gone"))
    if made.signal is None and chance.random() < 0.15:
        made.signal = (_signal_name(chance), chance.random() ** 2 * 3)
    if chance.random() < 0.06:
        made.file_limit = chance.choice((0, 1, 4, 64))
    made.replaced |= _replaceable(made)


def _replaceable(made: Case) -> set[bytes]:
    """Return the inputs that the command is told to overwrite or to remove."""
    words, inputs = made.words, {one.name for one in made.inputs}
    if b"--rm" in words or b"--force" in words or b"-f" in words:
        return {b"old", b"-", *inputs}
    keeping = ([b"compress"], [b"decompress"], [b"train"], [b"quantize"], [b"pull"])
    return {b"old"} if words[:1] not in keeping else set()


def _signal_name(chance: random.Random) -> str:
    return chance.choice(("SIGINT", "SIGTERM", "SIGHUP"))
