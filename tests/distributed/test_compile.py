"""Compiled branches compute what eager ones compute, forward and backward."""

import subprocess
import sys

import pytest

# The program runs in a separate process, because run-time type checks break compilation.
PROGRAM = """
import torch
from bit_transformer import BitTransformerLM
from bit_transformer.distributed.compile import compile_branches
from bit_transformer.objectives.causal import next_bit_loss

sizes = dict(d_model=32, nhead=2, num_layers=2, dim_feedforward=64, max_seq_len=256)
torch.manual_seed(0)
eager, compiled = BitTransformerLM(**sizes), BitTransformerLM(**sizes)
for weight in eager.parameters():
    torch.nn.init.normal_(weight, std=0.2)
compiled.load_state_dict(eager.state_dict())
names = list(compiled.state_dict())
compile_branches(compiled.network)
assert list(compiled.state_dict()) == names
bits = torch.randint(0, 2, (2, 256))
losses = [next_bit_loss(model.network, bits) for model in (eager, compiled)]
torch.testing.assert_close(losses[1], losses[0])
for loss in losses:
    loss.backward()
for one, other in zip(eager.parameters(), compiled.parameters()):
    one, other = (w.grad.to_dense() for w in (one, other))
    torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-3)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_branches_equal_eager_ones():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
