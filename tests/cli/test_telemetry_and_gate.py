"""Tests of the commands telemetry, gate and review, on a small run with a calibrated gate."""

import json
from pathlib import Path

import numpy as np
import pytest

from bit_transformer.cli.main import main
from bit_transformer.lm import BitTransformerLM
from bit_transformer.safety.gate import METADATA_KEY, SafetyGate

TINY = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--dim-feedforward", "32"]
TINY += ["--max-seq-len", "256", "--memory-slots", "256", "--device", "cpu", "--batch-size", "4"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "corpus.txt"
    words = np.random.default_rng(0).choice(["to", "be", "or", "not", "that", "is"], 40_000)
    path.write_text(" ".join(words))
    return path


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    flags = ["--steps", "24", "--telemetry-every", "4", "--held-out-fraction", "0.5"]
    assert main(["train", str(corpus), "--out", str(folder), *TINY, *flags]) == 0
    return folder


@pytest.fixture
def strict(run, tmp_path) -> Path:
    """Return the same model with a gate that nothing passes."""
    gate = SafetyGate(1.0, 1.0, burn_in=0).to_dict()
    model = BitTransformerLM.from_pretrained(run)
    return model.save_pretrained(tmp_path / "strict", **{METADATA_KEY: gate})


def test_a_run_calibrates_its_gate_and_held_out_windows_pass_it(run, capsys):
    assert main(["gate", str(run), "--json"]) == 0
    calibrated, documented = json.loads(capsys.readouterr().out)
    assert list(calibrated["floors"]) == ["f"]
    assert documented["floors"] == {"c": 0.3, "s": 0.5}
    assert calibrated["windows"] > 500
    assert calibrated["passing_share"] > 0.97


def test_held_out_bytes_of_changed_data_are_not_read(run, corpus, capsys):
    before = corpus.read_bytes()
    corpus.write_bytes(b"x" + before)
    try:
        for command in ("gate", "eval"):
            assert main([command, str(run)]) == 1
            assert "was trained on other bytes" in capsys.readouterr().err
    finally:
        corpus.write_bytes(before)


def test_a_comparison_says_whether_its_bytes_were_held_out(run, corpus, capsys):
    words = ["eval", str(run), "--limit", "500", "--against", "xz"]
    for data, title in (([], "500 held-out bytes"), ([str(corpus)], "500 bytes")):
        assert main([*words, *data]) == 0
        assert f"Bits per byte on {title} (" in capsys.readouterr().out


def test_other_files_are_judged_and_noise_does_not_pass(run, tmp_path, capsys):
    noise = tmp_path / "noise"
    noise.write_bytes(np.random.default_rng(1).bytes(20_000))
    assert main(["gate", str(run), str(noise), "--limit", "100", "--json"]) == 0
    calibrated, _ = json.loads(capsys.readouterr().out)
    assert calibrated["windows"] == 100
    assert calibrated["passing_share"] < 0.05
    assert main(["gate", str(run), str(noise)]) == 0
    assert "calibrated with the model" in capsys.readouterr().out


def test_telemetry_of_training_and_along_a_file(run, corpus, tmp_path, capsys):
    assert main(["telemetry", str(run)]) == 0
    assert (run / "readings.png").exists()
    assert "symbiosis_score" in capsys.readouterr().out
    picture = tmp_path / "x.png"
    words = ["telemetry", str(run), str(corpus), "--limit", "600", "--out", str(picture), "--json"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"k", "c", "s", "t", "u", "surprisal"} == report["readings"].keys()
    assert picture.exists()


def test_watching_shows_a_line_a_byte(run, capsys):
    assert main(["generate", str(run), "--prompt", "to be ", "--new-bytes", "9", "--watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "surprisal" in lines[0]
    assert len(lines) == 10


def test_a_gate_that_lets_pass_changes_nothing(run, capfdbinary):
    words = ["generate", str(run), "--prompt", "to be or not ", "--new-bytes", "60"]
    assert main(words) == 0
    plain = capfdbinary.readouterr().out
    code = main([*words, "--gate"])
    guarded = capfdbinary.readouterr().out
    assert plain.startswith(guarded)
    assert (code == 0) == (guarded == plain)


def test_refused_output_is_reviewed_and_released_once(strict, tmp_path, capsys):
    queue = ["--queue", str(tmp_path / "queue")]
    words = ["generate", str(strict), "--prompt", "to be ", "--new-bytes", "50", "--gate", *queue]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "the gate refused" in printed.err
    assert printed.out.strip() == "to be"
    assert main(["review", "list", *queue, "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert main(["review", "show", item["item"], *queue]) == 0
    assert "to be" in capsys.readouterr().out
    out = tmp_path / "released"
    assert main(["review", "approve", item["item"], "--out", str(out), *queue]) == 0
    assert len(out.read_bytes()) == item["bytes"] > 0
    assert main(["review", "approve", item["item"], *queue]) == 1
    assert "was approved before" in capsys.readouterr().err
    assert main(["review", "list", *queue]) == 0
    assert "0 pending, 1 approved, 0 rejected" in capsys.readouterr().out


def test_usage_errors_name_the_way_out(run, strict, tmp_path, capsys):
    queue = ["--queue", str(tmp_path / "queue")]
    assert main(["generate", str(run), "--gate", "--watch"]) == 2
    assert main(["generate", str(run), *queue]) == 2
    assert main(["generate", str(run), "--gate", "--samples", "2"]) == 2
    assert main(["review", "show", *queue]) == 2
    assert main(["review", "reject", "nothing", *queue]) == 1
    assert main(["telemetry", str(strict)]) == 1
    assert main(["gate", str(run), str(tmp_path / "missing")]) == 1
    (tmp_path / "empty").write_bytes(b"")
    assert main(["telemetry", str(run), str(tmp_path / "empty")]) == 1
    assert "is empty" in capsys.readouterr().err
    assert main(["gate", str(run), str(tmp_path / "empty")]) == 2
