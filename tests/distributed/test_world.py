"""Tests of ranks: which callbacks run, which data each rank reads, and FSDP2 on two processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bit_transformer import DataConfig, OptimizerConfig, TrainConfig
from bit_transformer.data.dataset import open_dataset
from bit_transformer.distributed.world import World
from bit_transformer.errors import ConfigError
from bit_transformer.objectives.causal import Causal
from bit_transformer.training.callbacks.base import Callback
from bit_transformer.training.optimizer import build_optimizer
from bit_transformer.training.trainer import Trainer
from tests.builders import tiny_model

_SHARDED = """
import os, sys
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from bit_transformer.objectives.causal import Causal
from tests.builders import tiny_model

bits = torch.randint(0, 2, (4, 512), generator=torch.Generator().manual_seed(1))

def network(settings):
    network = tiny_model(**settings, dropout=0.0).double().train().network
    # FSDP2 reduces dense gradients only.
    network.memory.rows.sparse = False
    return network

def losses(network, bits):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    found = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = Causal().loss(network, bits)
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)

def rank(number, settings, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=number, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    sharded = network(settings)
    hooked = []
    for branch in sharded.branches():
        fully_shard(branch, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    sharded.register_forward_hook(lambda *_: hooked.append(1))
    found = losses(sharded, bits[number::2])
    dist.all_reduce(found)
    assert len(hooked) == 2
    torch.testing.assert_close(found / 2, losses(network(settings), bits), rtol=1e-6, atol=0)
    dist.destroy_process_group()

if __name__ == "__main__":
    torch.set_num_threads(1)
    settings = dict(word.split("=") for word in sys.argv[2:])
    settings = {name: int(value) for name, value in settings.items()}
    mp.spawn(rank, (settings, sys.argv[1]), nprocs=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [[], ["reversible=1"], ["use_act=1"], ["chunk_size=128", "overlap=64"]]
)
def test_two_ranks_with_fsdp2_train_to_the_losses_of_one(tmp_path, settings):
    # The program runs in separate processes, because run-time type checks refuse sharded tensors.
    program = tmp_path / "sharded.py"
    program.write_text(_SHARDED)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "rendezvous"), *settings],
        env={"PYTHONPATH": root, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


class _Everywhere(Callback):
    every_rank = True
    name = "everywhere"


class _Main(Callback):
    """Runs on the main rank only."""


class _Nameless(_Main):
    def state_dict(self):
        return {"x": 1}


def _trainer(callbacks, world, loader):
    network = tiny_model().network
    optimizer = build_optimizer(network, OptimizerConfig())
    return Trainer(network, Causal(), loader, optimizer, TrainConfig(steps=1), callbacks, world)


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "data").write_bytes(np.random.default_rng(0).bytes(20_000))
    return open_dataset(DataConfig((str(tmp_path / "data"),)), window_bytes=32, spool=tmp_path)


def test_other_ranks_notify_only_callbacks_that_run_everywhere(dataset):
    callbacks = [_Everywhere(), _Main()]
    loader = dataset.loader(4)
    assert _trainer(callbacks, World(), loader).callbacks == callbacks
    assert _trainer(callbacks, World(1, 2), loader).callbacks == callbacks[:1]


def test_ranks_share_each_batch(dataset):
    whole = dataset.loader(4).next_batch()
    shares = [dataset.loader(4, rank=rank, world_size=2).next_batch() for rank in range(2)]
    assert torch.equal(whole[0::2], shares[0])
    assert torch.equal(whole[1::2], shares[1])


def test_states_are_saved_by_the_names_of_callbacks(dataset):
    loader = dataset.loader(4)
    with pytest.raises(ConfigError, match="two callbacks are called 'everywhere'"):
        _trainer([_Everywhere(), _Everywhere()], World(), loader)
    with pytest.raises(ConfigError, match="_Nameless has a state but no name"):
        _trainer([_Nameless()], World(), loader).state_dict()
