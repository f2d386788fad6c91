"""All flags of all commands."""

import re

import pytest

from bit_transformer.cli.main import main


def flags_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The flags that a command's help shows."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return set(re.findall(r"(?<![\w-])--(?!no-)[a-z][a-z0-9-]*", capsys.readouterr().out))


FLAGS: dict[str, set[str]] = {
    "train": {
        "--accumulate",
        "--batch-size",
        "--checkpoint-every",
        "--clip-norm",
        "--compile",
        "--config",
        "--d-model",
        "--decay",
        "--device",
        "--dim-feedforward",
        "--dropout",
        "--embedding-lr",
        "--evaluate-bytes",
        "--evaluate-every",
        "--floor-c",
        "--floor-k",
        "--floor-s",
        "--held-out-fraction",
        "--held-out-layout",
        "--held-out-regions",
        "--held-out-seed",
        "--help",
        "--json",
        "--keep-checkpoints",
        "--lambda-c",
        "--lambda-k",
        "--lambda-s",
        "--logit-cap",
        "--lr",
        "--max-recoveries",
        "--max-seq-len",
        "--memory-bits",
        "--memory-dropout",
        "--memory-lr",
        "--memory-slots",
        "--memory-width",
        "--momentum",
        "--nhead",
        "--num-layers",
        "--optimizer",
        "--out",
        "--parity",
        "--patch-size",
        "--patience",
        "--precision",
        "--preset",
        "--recovery-every",
        "--resume",
        "--rotary-base",
        "--schedule",
        "--seed",
        "--sources",
        "--steps",
        "--telemetry-every",
        "--tensorboard",
        "--trackio",
        "--warmup",
        "--weight-average",
        "--weight-decay",
        "--window-bytes",
    },
    "generate": {
        "--gate",
        "--help",
        "--json",
        "--min-p",
        "--new-bytes",
        "--prompt",
        "--prompt-file",
        "--queue",
        "--raw",
        "--samples",
        "--seed",
        "--temperature",
        "--top-k",
        "--top-p",
        "--valid-utf8",
        "--watch",
    },
    "score": {
        "--help",
        "--html",
        "--json",
        "--overlap-bytes",
        "--window-bytes",
    },
    "eval": {
        "--against",
        "--help",
        "--json",
        "--limit",
    },
    "runs": {
        "--help",
        "--json",
    },
    "telemetry": {
        "--help",
        "--json",
        "--limit",
        "--out",
    },
    "gate": {
        "--help",
        "--json",
        "--limit",
    },
    "review": {
        "--help",
        "--json",
        "--out",
        "--queue",
        "--state",
    },
}
