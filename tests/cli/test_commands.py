"""Commands print results on stdout, and one line with an exit code for every error."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.main import main
from tests.cli.flags import FLAGS, flags_of

TINY = ["--d-model", "16", "--nhead", "2", "--num-layers", "1", "--dim-feedforward", "32"]
TINY += ["--max-seq-len", "256", "--memory-slots", "256", "--device", "cpu"]
SHORT = [*TINY, "--steps", "8", "--batch-size", "4", "--evaluate-every", "4"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "corpus.txt"
    path.write_text("to be or not to be, that is the question\n" * 300)
    return path


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    assert main(["train", str(corpus), "--out", str(folder), *SHORT]) == 0
    return folder


def test_training_ends_with_a_table_a_sample_and_the_run_folder(corpus, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", str(corpus), "--out", str(folder), *SHORT]) == 0
    printed = capsys.readouterr().out
    for word in ("this model", "gzip -9", "bzip2 -9", "xz -9e", "zstd -22", "brotli -11"):
        assert word in printed
    assert "A sample of 400 bytes" in printed
    assert str(folder) in printed
    report = json.loads((folder / "report.json").read_text())
    assert set(report["baselines"]) == {"gzip -9", "bzip2 -9", "xz -9e", "zstd -22", "brotli -11"}


def test_training_prints_json_when_asked(corpus, tmp_path, capsys):
    assert main(["train", str(corpus), "--out", str(tmp_path / "r"), "--json", *SHORT]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 8
    assert report["held_out_bits_per_byte"] > 0


def test_training_resumes_with_the_settings_of_the_run(run, capsys):
    assert main(["train", "--out", str(run), "--resume", "--steps", "12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 12


def test_settings_come_from_a_toml_file_and_flags_win(corpus, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text("[model]\nd_model = 16\nnhead = 2\n[train]\nsteps = 3\nbatch_size = 2\n")
    words = ["train", str(corpus), "--out", str(tmp_path / "r"), "--config", str(config)]
    assert main([*words, "--num-layers", "1", "--steps", "2"]) == 0
    recorded = json.loads((tmp_path / "r" / "config.json").read_text())
    assert (recorded["model"]["d_model"], recorded["model"]["num_layers"]) == (16, 1)
    assert (recorded["train"]["steps"], recorded["train"]["batch_size"]) == (2, 2)


def test_generating_is_seeded_and_streams_or_batches(run, capsys):
    words = ["generate", str(run), "--prompt", "to be", "--new-bytes", "20", "--valid-utf8"]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert first.startswith("to be")
    assert main(words) == 0
    assert capsys.readouterr().out == first
    assert main([*words, "--samples", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["prompt"] == "to be"
    assert len(document["samples"]) == 3
    assert main([*words, "--samples", "2"]) == 0
    assert "--- sample 2 of 2" in capsys.readouterr().out


def test_raw_output_is_the_bytes(run, capfdbinary):
    assert main(["generate", str(run), "--raw", "--new-bytes", "33"]) == 0
    assert len(capfdbinary.readouterr().out) == 33


def test_scoring_prints_bits_per_byte_and_paints(run, corpus, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["score", str(run), str(corpus), "--html", str(page)]) == 0
    assert "bits per byte, static (the network alone), over 12,300 bytes" in capsys.readouterr().out
    assert page.read_text().startswith("<!doctype html>")
    assert main(["score", str(run), str(corpus), "--window-bytes", "16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["window_bytes"] == 16


def test_eval_compares_on_held_out_or_named_data(run, corpus, capsys):
    assert main(["eval", str(run), "--json"]) == 0
    held_out = json.loads(capsys.readouterr().out)
    assert held_out["bytes"] == pytest.approx(615, abs=40)
    assert len(held_out["baselines"]) == 5
    words = ["eval", str(run), str(corpus), "--against", "gzip,xz", "--limit", "1000"]
    assert main([*words, "--json"]) == 0
    named = json.loads(capsys.readouterr().out)
    assert named["bytes"] == 1000
    assert set(named["baselines"]) == {"gzip -9", "xz -9e"}
    assert main(words) == 0
    assert "this model" in capsys.readouterr().out


def test_runs_lists_what_there_is(run, capsys):
    assert main(["runs", str(run.parent), "--json"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["run"] == str(run)
    assert main(["runs", str(run.parent)]) == 0
    assert "ended" in capsys.readouterr().out


def _fails(words, code, message, capsys):
    assert main([str(word) for word in words]) == code
    (*before, last) = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("bit-transformer: ")
    assert message in last
    assert not any("Traceback" in line for line in before)


def test_bad_input_is_one_line_and_a_code(run, corpus, tmp_path, capsys):
    empty, short = tmp_path / "empty", tmp_path / "short"
    empty.touch()
    short.write_bytes(b"abc")
    (tmp_path / "folder").mkdir()
    out = ["--out", tmp_path / "run"]
    _fails(["train", tmp_path / "none", *out, *SHORT], 1, "none", capsys)
    for data, message in [(empty, "empty"), (short, "short"), (tmp_path / "folder", "folder")]:
        _fails(["train", data, *out, *SHORT], 1, message, capsys)
    assert not (tmp_path / "run").exists()
    _fails(["train", corpus, "--out", run, *SHORT], 2, "already holds a run", capsys)
    _fails(["generate", tmp_path / "none"], 1, "does not exist", capsys)
    _fails(["generate", run, "--new-bytes", "0"], 2, "at least 1", capsys)
    _fails(["score", run, tmp_path / "none"], 1, "cannot read", capsys)
    _fails(["score", run, empty], 1, "nothing to score", capsys)
    _fails(["eval", run, "--against", "rar"], 2, "no compressor named 'rar'", capsys)
    _fails(["runs", tmp_path / "none"], 1, "is not a folder", capsys)
    _fails(["fly"], 2, "no command 'fly'", capsys)


def test_a_damaged_checkpoint_is_named(run, tmp_path, capsys):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for weights in copy.glob("checkpoints/*/model.safetensors"):
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    _fails(["generate", copy], 1, "model.safetensors has changed since it was written", capsys)


def test_a_read_only_place_is_reported(run, corpus, tmp_path, capsys):
    page = tmp_path / "no" / "page.html"
    _fails(["score", run, corpus, "--html", page], 1, "cannot write", capsys)


def test_debug_shows_where(tmp_path, capsys):
    assert main(["generate", str(tmp_path / "none"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_internal_error_is_one_line_too(monkeypatch, capsys):
    monkeypatch.setattr("bit_transformer.cli.runs.run", lambda words: 1 / 0)
    _fails(["runs"], 1, "internal error, ZeroDivisionError", capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--no-such-flag"], "--no-such-flag"),
        (["train", "--nhead", "7"], "divisible by nhead, got 128 and 7"),
        (["train", "--patch-size", "13"], "patch_size must be 1 to 12, got 13"),
        (["generate", "run", "--top-p", "2"], "top_p must be in (0, 1], got 2.0"),
    ],
)
def test_a_flag_outside_its_limits_exits_with_two(words, message, capsys):
    _fails(words, 2, message, capsys)


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {command} " in printed for command in COMMANDS)


def test_a_missing_command_is_an_error_and_lists_them(capsys):
    assert main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("bit-transformer: a command is needed\n\nusage: ")
    assert all(f"  {command} " in printed.err for command in COMMANDS)


def test_python_m_runs_the_command_line():
    command = [sys.executable, "-m", "bit_transformer", "fly"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("bit-transformer: there is no command 'fly'")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flag_surface_is_frozen(command, capsys):
    # Users rely on flags, so whoever adds or removes one must also change tests/cli/flags.py.
    assert flags_of(command, capsys) == FLAGS[command]


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_quantized_model_is_taken_wherever_a_run_is(scheme, run, corpus, tmp_path, capsys):
    out = tmp_path / "small"
    words = ["quantize", run, "--to", scheme, "--out", out, "--data", corpus, "--json"]
    assert main([str(word) for word in words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes_after"] < report["bytes_before"]
    assert report["bits_per_byte_after"] == pytest.approx(report["bits_per_byte_before"], rel=0.02)
    assert main(["score", str(out), str(corpus), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)["bits_per_byte"]
    assert scored == pytest.approx(report["bits_per_byte_after"], abs=1e-4)
    assert main(["generate", str(out), "--prompt", "a", "--new-bytes", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"]
    _fails(["quantize", out, "--out", tmp_path / "again"], 2, "before its quantization", capsys)
    _fails(["quantize", run, "--out", out], 1, "exists", capsys)


def test_training_tells_what_it_chose_for_this_device(corpus, tmp_path, capsys):
    words = ["train", str(corpus), "--out", str(tmp_path / "run"), "--verbose"]
    assert main([*words, *SHORT]) == 0
    said = capsys.readouterr().err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for what, value in report["device"].items():
        assert f"{what}: {value}" in said
