"""Runs a case of `command_fuzz` as a process in a fresh folder, and judges the result."""

import hashlib
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO

from integration.command_fuzz import Case

from bit_transformer.compression.decoding import decompress_stream, list_blocks
from bit_transformer.errors import BitTransformerError
from bit_transformer.training.run_folder import RunFolder

MAX_SECONDS = 120.0
CODES = {0, 1, 2, 129, 130, 141, 143}
FORBIDDEN = (
    *(b"Traceback", b"internal error", b"Exception ignored", b"Fatal Python", b"core dumped"),
    *(b"terminate called", b"Warning:", b"Segmentation", b"<object ", b"object at 0x"),
)
CLASS_NAME = re.compile(rb"\b[A-Z][a-z]+[A-Za-z]*(?:Error|Exception)\b|\bKeyboardInterrupt\b")
# Torch creates this empty folder for its compiler when it is imported.
_OF_TORCH = b"$TMPDIR/torchinductor_"
TEXT = b"to be or not to be, that is the question\n" * 60


@dataclass(frozen=True)
class Models:
    """Files that are slow to make. Each case gets copies."""

    run: Path
    model: Path
    nan: Path
    packed: bytes
    """`TEXT`, compressed."""
    caches: Path
    """Home folder of all cases, where libraries cache compiled code."""


Snapshot = dict[bytes, tuple[int, bytes]]


@dataclass
class Outcome:
    """The result of one process."""

    code: int
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    signalled: bool = False
    hung: bool = False
    by_signal: bool = False
    """Whether a signal ended the process directly, as happens once the work is done."""
    before: Snapshot = field(default_factory=dict)
    after: Snapshot = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Complaints about incomplete files."""


def run(case: Case, folder: Path, models: Models) -> Outcome:
    """Run the process in the new folder `folder`, and wait for its end."""
    work, temporary = folder / "work", folder / "tmp"
    work.mkdir(parents=True)
    temporary.mkdir()
    with ExitStack() as stack:
        _write(work, "old", "text", models, stack)
        (work / "old_folder").mkdir()
        (work / "old_folder" / "inside").write_bytes(TEXT)
        for one in case.inputs:
            _write(work, os.fsdecode(one.name), one.kind, models, stack)
        before = _snapshot(work)
        outcome = _process(case, work, temporary, models, stack)
        outcome.before, outcome.after = before, _snapshot(work)
    outcome.after |= {b"$TMPDIR/" + name: is_ for name, is_ in _snapshot(temporary).items()}
    outcome.broken = list(broken(outcome))
    return outcome


def _process(case: Case, work: Path, temporary: Path, models: Models, stack: ExitStack) -> Outcome:
    began = time.monotonic()
    stdin = stack.enter_context(_stdin(case.stdin, work, models))
    stdout, stderr = (stack.enter_context(_sink(kind, work)) for kind in (case.stdout, case.stderr))
    process = subprocess.Popen(
        [*_shell(case), sys.executable.encode(), b"-m", b"bit_transformer", *case.words],
        cwd=work,
        env=_environment(case, temporary, models),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    outcome = Outcome(0)
    try:
        if case.signal is not None:
            outcome.signalled = _send(process, *case.signal)
        outcome.stdout, outcome.stderr = (
            found or b"" for found in process.communicate(timeout=MAX_SECONDS)
        )
    except subprocess.TimeoutExpired:
        outcome.hung = True
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            outcome.stdout, outcome.stderr = (found or b"" for found in process.communicate())
    # A shell reports an end by signal n as 128 + n, and Python as -n.
    outcome.code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    outcome.by_signal = process.returncode < 0
    outcome.seconds = time.monotonic() - began
    return outcome


def _shell(case: Case) -> list[bytes]:
    """Return a shell command that closes streams, limits file sizes and then execs the command."""
    closed = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-"}
    redirections = [sign for name, sign in closed.items() if getattr(case, name) == "closed"]
    limit = "" if case.file_limit is None else f"ulimit -f {case.file_limit}; "
    script = f'{limit}exec "$@" {" ".join(redirections)}'
    return [*_without_root(), b"/bin/sh", b"-c", script.encode(), b"sh"]


def _without_root() -> list[bytes]:
    """Return a prefix that makes file permissions apply to root too, if setpriv is installed."""
    tool = shutil.which("setpriv")
    if os.geteuid() != 0 or tool is None:
        return []
    return [tool.encode(), b"--bounding-set=-dac_override,-dac_read_search"]


def _environment(case: Case, temporary: Path, models: Models) -> dict[str, str]:
    base = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HOME": str(models.caches),
        "MPLCONFIGDIR": str(models.caches),
        "NUMBA_CACHE_DIR": str(models.caches),
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "LANG": "C.UTF-8",
        **case.environment,
    }
    if case.file_limit is not None:
        # Under a file limit, Python would leave truncated bytecode in its cache.
        base["PYTHONDONTWRITEBYTECODE"] = "1"
    return {name: value for name, value in base.items() if value is not None}


def _send(process: subprocess.Popen[bytes], name: str, delay: float) -> bool:
    """Send a signal `delay` seconds after the process has set a handler for SIGTERM.

    Returns whether the process was still running.
    """
    status, deadline = Path(f"/proc/{process.pid}/status"), time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.01)
    try:
        process.wait(timeout=delay)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.Signals[name])
        return True
    return False


@contextmanager
def _stdin(kind: str, work: Path, models: Models) -> Iterator[int | IO[bytes]]:
    content = {"text": TEXT, "packed": models.packed}.get(kind)
    if kind == "file":
        with (work / "old").open("rb") as file:
            yield file
    elif content is not None:
        reader, writer = os.pipe()
        # The content is smaller than the buffer of a pipe, so this does not block.
        os.write(writer, content)
        os.close(writer)
        yield reader
        os.close(reader)
    else:
        yield subprocess.DEVNULL


@contextmanager
def _sink(kind: str, work: Path) -> Iterator[int | IO[bytes]]:
    if kind == "full":
        with Path("/dev/full").open("wb", buffering=0) as file:
            yield file
    elif kind == "file":
        with (work.parent / "printed").open("wb") as file:
            yield file
    elif kind == "gone":
        reader, writer = os.pipe()
        os.close(reader)
        yield writer
        os.close(writer)
    else:
        yield subprocess.PIPE


def _write(work: Path, name: str, kind: str, models: Models, stack: ExitStack) -> None:
    path = work / name
    if kind in _CONTENTS:
        path.write_bytes(_CONTENTS[kind](models))
        if kind == "unreadable":
            path.chmod(0)
    elif kind.startswith("run") or kind == "model":
        shutil.copytree({"model": models.model, "run_nan": models.nan}.get(kind, models.run), path)
        _spoil(path, kind, stack)
    elif kind == "link":
        (work / "target").write_bytes(TEXT)
        path.symlink_to("target")
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "fifo":
        os.mkfifo(path)
        command = f"exec cat target_of_fifo > {shlex.quote('./' + name)}"
        (work / "target_of_fifo").write_bytes(TEXT)
        writer = subprocess.Popen(["/bin/sh", "-c", command], cwd=work, stderr=subprocess.DEVNULL)
        stack.callback(writer.wait)
        stack.callback(writer.kill)
    else:
        path.mkdir()
        (path / "inside.txt").write_bytes(TEXT)
        if kind == "locked_folder":
            path.chmod(0o500)


def _spoil(run: Path, kind: str, stack: ExitStack) -> None:
    config = run / "config.json"
    if kind == "run_without_config":
        config.unlink()
    elif kind == "run_cut_config":
        config.write_bytes(config.read_bytes()[:40])
    elif kind == "run_cut_weights":
        for path in run.rglob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:-50])
    elif kind == "run_empty":
        shutil.rmtree(run / "checkpoints")
    elif kind == "run_in_use":
        stack.enter_context(RunFolder(run).writing())


_CONTENTS: Mapping[str, Callable[[Models], bytes]] = {
    "empty": lambda models: b"",
    "one": lambda models: b"a",
    "text": lambda models: TEXT,
    "unreadable": lambda models: TEXT,
    "binary": lambda models: hashlib.shake_128(b"binary").digest(3000),
    "bom": lambda models: b"\xef\xbb\xbf" + TEXT,
    "packed": lambda models: models.packed,
    "packed_twice": lambda models: models.packed * 2,
    "packed_cut": lambda models: models.packed[:-9],
    "packed_flipped": lambda models: models.packed[:40] + b"?" + models.packed[41:],
    "toml_good": lambda models: b"[model]\nd_model = 16\n[train]\nsteps = 2\n",
    "toml_bom": lambda models: b"\xef\xbb\xbf[train]\nsteps = 2\n",
    "toml_cut": lambda models: b"[train]\nsteps = ",
    "toml_unknown_key": lambda models: b"[train]\nstepz = 2\n",
    "toml_unknown_section": lambda models: b"[trane]\nsteps = 2\n",
    "toml_wrong_type": lambda models: b'[model]\nd_model = "32"\n[train]\nsteps = true\n',
    "toml_infinite": lambda models: b"[optimizer]\nlr = inf\n[train]\nwarmup = nan\n",
    "toml_binary": lambda models: b"\x00\xff\xfe\r\x85",
}


def _snapshot(folder: Path) -> Snapshot:
    """Return permissions and content of everything in a folder. Special files have no content."""
    found: Snapshot = {}
    for base, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(base, name)
            mode = os.lstat(path).st_mode
            content = b""
            if stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(mode):
                content = os.readlink(path)
            found[os.path.relpath(path, os.fsencode(folder))] = (mode, content)
    return found


def broken(outcome: Outcome) -> Iterator[str]:
    """Yield a complaint for each new file that is incomplete, which the end of the file shows."""
    for name, (mode, content) in outcome.after.items():
        if not stat.S_ISREG(mode) or outcome.before.get(name) == (mode, content):
            continue
        if name.endswith(b".btz") and not _decodes(content):
            yield f"{name!r} cannot be decompressed"
        if content.startswith(b"<!doctype html") and not content.endswith(b"</html>\n"):
            yield f"{name!r} is half a page"
        if content.startswith(b"\x89PNG") and b"IEND" not in content[-12:]:
            yield f"{name!r} is half a picture"


def _decodes(content: bytes) -> bool:
    try:
        listing = list_blocks(BytesIO(content))
        if any(member.network or member.given for member in listing.members):
            # Without the model or dictionary, only the checksums of the blocks can be checked.
            return not listing.damage
        decompress_stream(BytesIO(content), BytesIO())
    except BitTransformerError:
        return False
    return True


def complaints(case: Case, outcome: Outcome) -> list[str]:
    """Return everything that is wrong with the end of a case. It is empty for a documented end."""
    if outcome.hung:
        return [f"it did not end within {MAX_SECONDS:.0f} s"]
    return [*_codes(case, outcome), *_words(case, outcome), *_files(case, outcome)]


def _codes(case: Case, outcome: Outcome) -> Iterator[str]:
    code = outcome.code
    if code not in CODES:
        yield f"exit code {code} is not documented"
    if code > 128 and code != 141:
        name = case.signal[0] if case.signal and outcome.signalled else None
        if name is None or code != 128 + signal.Signals[name]:
            yield f"exit code {code} after {name or 'no signal'}"
    if code == 141 and "gone" not in (case.stdout, case.stderr):
        yield "exit code 141, and the reader had not gone away"
    if case.usage_error and code not in (2, 129, 130, 143):
        yield f"exit code {code} for a usage error"


def _words(case: Case, outcome: Outcome) -> Iterator[str]:
    said = outcome.stdout + b"\n" + outcome.stderr
    if b"--debug" not in case.words:
        yield from (f"it says {word!r}" for word in FORBIDDEN if word in said)
        yield from (f"it names a class, {name!r}" for name in set(CLASS_NAME.findall(said)))
    if outcome.code == 0 and re.search(rb"\berror\b", outcome.stderr, re.IGNORECASE):
        yield "exit code 0, and it speaks of an error"
    # A signal at the very end comes after the handlers are removed, and prints nothing.
    can_be_read = case.stderr == "pipe" and outcome.code != 141 and not outcome.by_signal
    if outcome.code != 0 and can_be_read and not outcome.stderr.strip():
        yield f"exit code {outcome.code} without a word on standard error"


def _files(case: Case, outcome: Outcome) -> Iterator[str]:
    yield from outcome.broken
    for name, found in outcome.after.items():
        if name not in outcome.before and b".tmp" in name.rsplit(b"/", 1)[-1]:
            yield f"{name!r} is left over"
        if name.startswith(b"$TMPDIR/") and not name.startswith(_OF_TORCH):
            yield f"{name!r} is left over"
        before = outcome.before.get(name, found)
        if found != before and name.split(b"/")[0] not in case.replaced:
            yield f"{name!r} was changed"
    for name in outcome.before.keys() - outcome.after.keys():
        if name.split(b"/")[0] not in case.replaced:
            yield f"{name!r} is gone"
