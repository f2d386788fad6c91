"""Tests of --device on every command that loads a model."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bit_transformer.cli.commands import COMMANDS
from bit_transformer.cli.main import main
from tests.builders import tiny_model
from tests.cli.flags import FLAGS

TINY = "--d-model 16 --nhead 2 --num-layers 1 --dim-feedforward 32 --max-seq-len 256 --memory-slots"
TRAIN = [*TINY.split(), "256", "--steps", "2", "--batch-size", "2", "--evaluate-bytes", "64"]
WORDS = {
    "train": ["train", "DATA", "--out", "OUT", *TRAIN],
    "generate": ["generate", "MODEL", "--new-bytes", "8", "--json"],
    "generate --raw": ["generate", "MODEL", "--new-bytes", "8", "--raw"],
    "generate --samples": ["generate", "MODEL", "--new-bytes", "8", "--samples", "2"],
    "generate --watch": ["generate", "MODEL", "--new-bytes", "8", "--watch"],
    "generate --gate": ["generate", "MODEL", "--new-bytes", "8", "--gate"],
    "score": ["score", "MODEL", "DATA"],
    "score --html": ["score", "MODEL", "DATA", "--html", "OUT"],
    "eval": ["eval", "MODEL", "DATA", "--against", "xz", "--limit", "500"],
    "gate": ["gate", "MODEL", "DATA"],
    "telemetry": ["telemetry", "MODEL", "DATA", "--limit", "400"],
    "quantize": ["quantize", "MODEL", "--out", "OUT", "--data", "DATA"],
}
"""Command lines of all commands that run a model on a device."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("device")
    (path / "data").write_bytes(b"to be or not to be, that is the question\n" * 60)
    tiny_model().save_pretrained(path / "model")
    return path


def line(name: str, folder: Path, out: Path) -> list[str]:
    places = {"MODEL": folder / "model", "DATA": folder / "data", "OUT": out}
    return [str(places.get(word, word)) for word in WORDS[name]]


def test_all_commands_with_the_flag_are_tried():
    # `memory` only estimates what `train` needs, and shares its flags.
    with_flag = {command for command in COMMANDS if "--device" in FLAGS[command]}
    assert with_flag - {"memory"} == {words[0] for words in WORDS.values()}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("device", ["cpu", "auto", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_device_that_is_there_runs_the_model(name, device, folder, tmp_path):
    assert main([*line(name, folder, tmp_path / "out"), "--device", device]) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", WORDS)
def test_a_missing_gpu_is_one_clear_line(name, folder, tmp_path, capsys):
    assert main([*line(name, folder, tmp_path / "out"), "--device", "cuda"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "bit-transformer: device 'cuda' cannot be used: no GPU is usable; use auto or cpu\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", ""])
def test_an_unknown_device_is_a_usage_error(device, folder, tmp_path, capsys):
    assert main([*line("score", folder, tmp_path), f"--device={device}"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert f"device {device!r}" in message
    assert "use auto" in message


def test_the_device_changes_no_byte_on_a_cpu(folder, tmp_path):
    command = [sys.executable, "-m", "bit_transformer", *line("generate --raw", folder, tmp_path)]
    plain, named = (
        subprocess.run([*command, *flag], capture_output=True, check=True).stdout
        for flag in ([], ["--device", "cpu"])
    )
    assert plain == named
