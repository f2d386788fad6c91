"""A command ends as documented, whatever is typed and whatever happens while it runs."""

import dataclasses
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
import torch
from builders import tiny_model
from integration.command_fuzz import Case, Input, case
from integration.command_judge import TEXT, Models, Outcome, broken, complaints, run

from bit_transformer import DataConfig, ModelConfig, RunConfig, TrainConfig
from bit_transformer.compression.encoding import compress_stream
from bit_transformer.training.config import EvaluationConfig
from bit_transformer.training.fit import train_run

SEED = 15
FEW = 36


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """Return a run of two steps, an exported model, one with NaN weights, and a compressed file."""
    folder = tmp_path_factory.mktemp("models")
    model = tiny_model()
    model.save_pretrained(folder / "model")
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    model.save_pretrained(folder / "nan")
    (folder / "corpus.txt").write_bytes(TEXT * 4)
    sizes = ModelConfig(d_model=16, nhead=2, num_layers=1, dim_feedforward=32, max_seq_len=256)
    train_run(
        RunConfig(
            DataConfig((str(folder / "corpus.txt"),)),
            dataclasses.replace(sizes, memory_slots=256, memory_width=4),
            train=TrainConfig(steps=2, batch_size=2, device="cpu"),
            evaluation=EvaluationConfig(evaluate_bytes=64),
        ),
        folder / "run",
        progress=False,
    )
    packed = BytesIO()
    compress_stream(BytesIO(TEXT), packed)
    caches = folder / "caches"
    caches.mkdir()
    # A shell that starts the tests in the background makes them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Models(folder / "run", folder / "model", folder / "nan", packed.getvalue(), caches)
    signal.signal(signal.SIGINT, before)


def _judge(numbers: range, folder: Path, models: Models) -> list[str]:
    """Run cases, two at a time. Return a paragraph for each that did not end as documented."""

    def judged(number: int) -> str:
        one = case(SEED, number)
        outcome = run(one, folder / str(number), models)
        found = complaints(one, outcome)
        return _paragraph(one, outcome, found) if found else ""

    with ThreadPoolExecutor(2) as pool:
        return [text for text in pool.map(judged, numbers) if text]


def _paragraph(one: Case, outcome: Outcome, found: list[str]) -> str:
    lines = [f"case {one.number}: {'; '.join(found)}", f"  {one}", f"  {outcome.seconds:.1f} s"]
    said = {"stdout": outcome.stdout, "stderr": outcome.stderr}
    lines += [
        f"  {name}: {text[-1500:].decode(errors='backslashreplace')}" for name, text in said.items()
    ]
    return "\n".join([*lines, f"  exit code {outcome.code}"])


def test_random_commands_end_as_documented(models, tmp_path):
    failures = _judge(range(FEW), tmp_path, models)
    assert not failures, "\n\n".join(failures)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_random_commands_end_as_documented(models, tmp_path):
    failures = _judge(range(FEW, FEW + 500), tmp_path, models)
    assert not failures, f"{len(failures)} failures\n" + "\n\n".join(failures)


def test_a_case_is_the_same_for_the_same_number():
    assert case(SEED, 7) == case(SEED, 7)
    assert case(SEED, 7) != case(SEED + 1, 7)


PLAIN = Case(0, [b"compress", b"a.txt"])
ENDED = Outcome(0, before={b"a.txt": (0o100644, b"a")}, after={b"a.txt": (0o100644, b"a")})
FAILED = dataclasses.replace(ENDED, code=1, stderr=b"bit-transformer: the disk is full\n")


@pytest.mark.parametrize(
    ("case_of", "outcome"),
    [
        ({}, ENDED),
        ({}, FAILED),
        ({"stderr": "full"}, dataclasses.replace(ENDED, code=1)),
        ({"stdout": "gone"}, dataclasses.replace(ENDED, code=141)),
        ({"signal": ("SIGTERM", 1.0)}, dataclasses.replace(FAILED, code=143, signalled=True)),
        ({"usage_error": True}, dataclasses.replace(FAILED, code=2)),
        ({"replaced": {b"a.txt"}}, dataclasses.replace(ENDED, after={})),
    ],
)
def test_the_judge_finds_nothing_in_documented_ends(case_of, outcome):
    assert complaints(dataclasses.replace(PLAIN, **case_of), outcome) == []


@pytest.mark.parametrize(
    ("case_of", "changes", "complaint"),
    [
        ({}, {"hung": True}, "did not end"),
        ({}, {"code": 120, "stderr": b"x"}, "exit code 120 is not documented"),
        ({}, {"code": 139, "stderr": b"x"}, "exit code 139 is not documented"),
        ({}, {"code": 143, "stderr": b"x"}, "after no signal"),
        (
            {"signal": ("SIGHUP", 1.0)},
            {"code": 143, "stderr": b"x", "signalled": True},
            "exit code 143 after SIGHUP",
        ),
        ({}, {"code": 141}, "the reader had not gone away"),
        ({"usage_error": True}, {}, "exit code 0 for a usage error"),
        ({}, {"code": 1, "stderr": b" \n"}, "without a word"),
        ({}, {"stderr": b"Traceback (most recent call last):\n"}, "it says"),
        ({}, {"code": 1, "stderr": b"internal error, KeyError"}, "it says"),
        ({}, {"stdout": b"ConfigError: no"}, "it names a class, b'ConfigError'"),
        ({}, {"stderr": b"an error, but never mind"}, "it speaks of an error"),
        ({}, {"broken": ["b'a.btz' cannot be decompressed"]}, "cannot be decompressed"),
        ({}, {"after": {**ENDED.after, b".tmp-1": (0, b"")}}, "b'.tmp-1' is left over"),
        ({}, {"after": {**ENDED.after, b"$TMPDIR/x": (0, b"")}}, "is left over"),
        ({}, {"after": {b"a.txt": (0o100644, b"b")}}, "b'a.txt' was changed"),
        ({}, {"after": {}}, "b'a.txt' is gone"),
    ],
)
def test_the_judge_finds_every_kind_of_fault(case_of, changes, complaint):
    found = complaints(dataclasses.replace(PLAIN, **case_of), dataclasses.replace(ENDED, **changes))
    assert any(complaint in one for one in found), found


def test_the_judge_finds_half_a_file(models, tmp_path):
    one = Case(0, [b"--version"], [Input(b"whole.btz", "packed"), Input(b"page", "text")])
    outcome = run(one, tmp_path, models)
    assert complaints(one, outcome) == []
    outcome.before.clear()
    outcome.after[b"half.btz"] = (0o100644, models.packed[:-9])
    outcome.after[b"page"] = (0o100644, b"<!doctype html><p>")
    outcome.after[b"picture"] = (0o100644, b"\x89PNG\r\n")
    found = " ".join(broken(outcome))
    assert "whole" not in found
    assert all(name in found for name in ("half.btz", "page", "picture"))


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("raise KeyError('x')", "it says b'Traceback'"),
        ("open('.tmp-1', 'w')", "is left over"),
        ("open('old', 'w')", "was changed"),
        ("import os; os.abort()", "is not documented"),
        ("sys.exit(1)", "without a word"),
    ],
)
def test_a_fault_in_the_program_is_found(models, tmp_path, monkeypatch, fault, complaint):
    package = tmp_path / "faulty" / "bit_transformer"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(f"import sys\n{fault}\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    found = complaints(PLAIN, run(PLAIN, tmp_path / "case", models))
    assert any(complaint in one for one in found), found
