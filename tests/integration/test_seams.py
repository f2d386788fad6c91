"""A new objective, callback or network part needs one file and one line in a list.

A copy of the package gets all three, and a separate process trains a run with them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bit_transformer

_OBJECTIVE = '''
"""Half of the causal loss."""

from bit_transformer.objectives.causal import Causal


class Half(Causal):
    name = "half"

    def loss(self, network, bits, progress=1.0):
        return super().loss(network, bits, progress) / 2
'''
_CALLBACK = '''
"""Counts steps, also across a resume."""

from bit_transformer.training.callbacks.base import Callback


class Count(Callback):
    name = "count"

    def __init__(self, path):
        self._path, self._steps = path, 0

    def on_step_end(self, trainer, record):
        self._steps += 1
        self._path.write_text(f"{self._steps} {type(trainer.network.stack).__name__}")

    def state_dict(self):
        return {"steps": self._steps}

    def load_state_dict(self, state):
        self._steps = state.get("steps", 0)
'''
_STACK = '''
"""A stack that adds its input once more."""

from bit_transformer.model.stack import PlainStack


class SkipStack(PlainStack):
    def forward(self, x, context, cache=None):
        return x + super().forward(x, context, cache)
'''
_RUN = """
import sys
from pathlib import Path
from bit_transformer import *
from bit_transformer.training.fit import train_run

sizes = {"d_model": 16, "nhead": 2, "num_layers": 2, "dim_feedforward": 32, "max_seq_len": 256}
sections = {
    "data": {"sources": [sys.argv[1]]},
    "model": sizes | {"memory_slots": 256},
    "train": {"steps": int(sys.argv[2]), "batch_size": 2, "device": "cpu"},
    "objective": {"objective": "half"},
}
train_run(RunConfig.from_dict(sections), Path("run"), resume=len(sys.argv) > 3, progress=False)
"""
_LISTS = {
    "objectives/build.py": (
        "from bit_transformer.objectives.half import Half\n",
        ("{Causal.name: Causal}", "{Causal.name: Causal, Half.name: Half}"),
    ),
    "training/callback_list.py": (
        "from bit_transformer.training.callbacks.count import Count\n",
        ("        MetricsLog(run.metrics),\n", "        Count(run.path / 'count'),\n"),
    ),
    "model/transformer.py": (
        "from bit_transformer.model.skip import SkipStack\n",
        ("    (lambda config: True, PlainStack),\n", "    (lambda config: True, SkipStack),\n"),
    ),
}
"""For each list, the import, a text in it, and the text that replaces or precedes it."""


@pytest.mark.slow
def test_new_parts_are_one_file_and_one_line_each(tmp_path):
    package = tmp_path / "bit_transformer"
    source = Path(bit_transformer.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "objectives" / "half.py").write_text(_OBJECTIVE)
    (package / "training" / "callbacks" / "count.py").write_text(_CALLBACK)
    (package / "model" / "skip.py").write_text(_STACK)
    for name, (imported, (before, after)) in _LISTS.items():
        text = (package / name).read_text(encoding="utf-8")
        assert text.count(before) == 1
        after = after if "{" in after else after + before
        text = text.replace(before, after).replace("\nfrom bit_", f"\n{imported}from bit_", 1)
        (package / name).write_text(text, encoding="utf-8")
    (tmp_path / "data").write_bytes(b"the quick brown fox jumps over the lazy dog. " * 100)
    for words in (["2"], ["4", "resume"]):
        done = subprocess.run(
            [sys.executable, "-c", _RUN, str(tmp_path / "data"), *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert (run / "count").read_text() == "4 SkipStack"
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert 3 < next(line["loss"] for line in losses if line["kind"] == "step") < 4.1
    manifest = run / "checkpoints" / "step-00000004" / "manifest.json"
    assert json.loads(manifest.read_text())["objective"] == "half"
