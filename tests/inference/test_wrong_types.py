"""Values of a wrong type raise one-line project errors. Paths may be text."""

import json
import subprocess
import sys
from pathlib import Path

# The calls run in a separate process, because run-time type checks would refuse them first.
PROGRAM = """
import json
import sys

import numpy as np
import torch

from bit_transformer import BitTransformerError, BitTransformerLM, bytes_to_bits, text_to_bits

folder = sys.argv[1]
model = BitTransformerLM(d_model=16, nhead=2, num_layers=1, dim_feedforward=32).eval()
assert isinstance(folder, str)
model.save_pretrained(folder)
BitTransformerLM.from_pretrained(folder).score(b"ab")
bits = torch.zeros(1, 8).long()
calls = {
    "forward numpy": lambda: model(np.zeros((1, 8), np.uint8)),
    "generate list": lambda: model.generate([[0, 1]], 8),
    "generate bytes": lambda: model.generate(b"ab", 8),
    "generate float": lambda: model.generate(torch.zeros(1, 8), 8),
    "generate a stop of numbers": lambda: model.generate(bits, 8, stop=[1]),
    "generate a temperature of text": lambda: model.generate(bits, 8, temperature="1"),
    "generate half a patch": lambda: model.generate(bits, 8, top_k=2.5),
    "likelihood str": lambda: model.log2_likelihood("0101"),
    "score str": lambda: model.score("text"),
    "score path": lambda: model.score(__import__("pathlib").Path("a")),
    "score tensor": lambda: model.score(torch.zeros(8)),
    "score float array": lambda: model.score(np.zeros(8)),
    "sample str": lambda: model.sample("text", 3),
    "sample a seed of text": lambda: model.sample(b"", 3, seed="1"),
    "bytes_to_bits str": lambda: bytes_to_bits("text"),
    "text_to_bits bytes": lambda: text_to_bits(b"text"),
}
found = {}
for name, call in calls.items():
    try:
        call()
        found[name] = "nothing was raised"
    except BitTransformerError as error:
        found[name] = None if "got" in str(error) and "\\n" not in str(error) else str(error)
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps({name: what for name, what in found.items() if what is not None}))
"""


def test_the_error_names_the_expected_and_the_given_type(tmp_path):
    words = [sys.executable, "-c", PROGRAM, str(Path(tmp_path) / "model")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {}
