"""Each module computes its definition."""

import pytest
import torch
from torch.nn import functional

from bit_transformer.model.attention import MaskRule, full_attention
from bit_transformer.model.bit_tree import BitTreeEmbedding, BitTreeHead
from bit_transformer.model.block import squared_relu
from bit_transformer.model.config import ModelConfig
from bit_transformer.model.flops import (
    matrix_parameters,
    muon_flops_per_step,
    training_flops_per_byte,
)
from bit_transformer.model.memory import ContextMemory
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.rotary import Rotary
from bit_transformer.model.transformer import set_dropout
from tests.builders import tiny_model


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_rms_norm_equals_torchs_in_value_and_gradient():
    x = torch.randn(4, 7, 16, dtype=torch.float64, requires_grad=True)
    expected = functional.rms_norm(x, (16,), eps=0.0)
    torch.testing.assert_close(rms_norm(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(rms_norm(x), expected)
    assert torch.autograd.gradcheck(rms_norm, (x,))
    assert rms_norm(torch.zeros(1, 4)).abs().max() == 0


def test_squared_relu_in_value_and_gradient():
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(squared_relu(x), x.clamp_min(0) ** 2)
    with torch.no_grad():
        torch.testing.assert_close(squared_relu(x), x.clamp_min(0) ** 2)
    assert torch.autograd.gradcheck(squared_relu, (x,))


def test_rotation_keeps_lengths_and_depends_on_distance_only():
    rotary = Rotary(8, 32, base=100.0)
    q, k = torch.randn(1, 1, 1, 1, 8), torch.randn(1, 1, 1, 1, 8)

    def turned(x: torch.Tensor, position: int) -> torch.Tensor:
        return rotary(position, 1).apply(x)

    torch.testing.assert_close(turned(q, 9).norm(), q.norm())
    products = [(turned(q, p) * turned(k, p + 5)).sum() for p in (0, 7, 20)]
    torch.testing.assert_close(products[1], products[0])
    torch.testing.assert_close(products[2], products[0])
    assert not torch.isclose((turned(q, 0) * turned(k, 6)).sum(), products[0])


@pytest.mark.parametrize(("asked", "known"), [(5, 5), (1, 6), (3, 8)])
@pytest.mark.parametrize("causal", [True, False])
def test_full_attention_equals_softmax_of_allowed_scores(asked, known, causal):
    q = torch.randn(2, 3, asked, 4, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, known, 4, dtype=torch.float64).unbind(0)
    scores = q @ k.transpose(-1, -2) / 2
    if causal:
        allowed = torch.ones(asked, known).tril(known - asked).bool()
        scores = scores.masked_fill(~allowed, -torch.inf)
    expected = scores.softmax(-1) @ v
    torch.testing.assert_close(full_attention(q, k, v, MaskRule(causal)), expected)


@pytest.mark.parametrize("patch_size", [1, 3, 8])
def test_a_patch_embeds_as_the_sum_of_the_nodes_on_its_path(patch_size):
    embedding = BitTreeEmbedding(patch_size, 6)
    for value in range(2**patch_size):
        nodes = [2**i + (value >> (patch_size - i)) for i in range(patch_size + 1)]
        expected = embedding.nodes[nodes].sum(0)
        torch.testing.assert_close(embedding(torch.tensor([[value]]))[0, 0], expected)
    torch.testing.assert_close(embedding.start(2)[1, 0], embedding.nodes[1])


def _memory(**settings) -> ContextMemory:
    fields = {"memory_bits": (16, 24), "memory_slots": 1 << 16, "memory_width": 4}
    return ContextMemory(ModelConfig(**(fields | settings)))


def test_the_memory_looks_at_exactly_its_spans():
    memory = _memory()
    recent = torch.randint(0, 256, (1, 20))
    rows = memory.row_indices(recent, 10)[0, -1]
    for distance, changed in [(0, {0, 1}), (1, {0, 1}), (2, {1}), (3, set())]:
        other = recent.clone()
        other[0, -1 - distance] += 1
        moved = memory.row_indices(other, 10)[0, -1] != rows
        assert set(moved.nonzero().flatten().tolist()) == changed


def test_the_memory_spreads_contexts_evenly_over_its_rows():
    memory = _memory(memory_slots=1024, memory_bits=(24, 32))
    recent = torch.randint(0, 256, (1, 40_000))
    rows = memory.row_indices(recent, 39_000)[0]
    assert rows[:, 0].max() < 1024
    assert rows[:, 1].min() >= 1024
    for order in range(2):
        counts = torch.bincount(rows[:, order] - 1024 * order, minlength=1024).double()
        # If rows are hit at random, the variance of the counts is about their mean.
        assert counts.var() / counts.mean() < 1.3


def test_the_memory_hash_is_the_same_everywhere():
    # Checkpoints depend on this hash, so a change needs a new format version.
    recent = torch.tensor([[-1, -1, 65, 66, 67]])
    assert _memory().row_indices(recent, 2).tolist() == [[[42206, 84555], [15909, 105324]]]


def test_only_looked_up_rows_get_a_gradient():
    memory = _memory()
    recent = torch.randint(0, 256, (2, 9))
    memory(recent, 5).sum().backward()
    gradient = memory.rows.weight.grad
    assert gradient.is_sparse
    touched = set(gradient.coalesce().indices().flatten().tolist())
    assert touched == set(memory.row_indices(recent, 5).flatten().tolist())


def test_the_memory_drops_channels_and_only_in_training():
    memory = _memory(d_model=8, memory_dropout=0.5)
    torch.nn.init.eye_(memory.project.weight)
    torch.nn.init.ones_(memory.rows.weight)
    recent = torch.randint(0, 256, (4, 60))
    assert torch.equal(memory.eval()(recent, 50), torch.ones(4, 50, 8))
    rows = memory.train()(recent, 50).view(4, 50, 2, 4)
    assert set(rows.unique().tolist()) == {0.0, 2.0}
    # Channels are dropped independently, so most rows lose only some of them.
    assert ((rows == 0).any(-1) & (rows > 0).any(-1)).float().mean() > 0.7


def test_capped_logits_are_the_bounded_image_of_free_ones():
    x = torch.randn(2, 3, 16, dtype=torch.float64)
    free = BitTreeHead(8, 16, parity=False).double()
    capped = BitTreeHead(8, 16, parity=False, logit_cap=4.0).double()
    torch.nn.init.normal_(free.nodes, std=3)
    capped.load_state_dict(free.state_dict())
    assert free(x).abs().max() > 8
    assert torch.allclose(capped(x), 4 * torch.tanh(free(x) / 4), rtol=0, atol=1e-12)
    assert capped(x).abs().max() <= 4


def test_parity_bits_stay_free_under_a_cap():
    head = BitTreeHead(9, 16, parity=True, logit_cap=4.0)
    assert torch.equal(head(torch.randn(1, 1, 16))[..., 256:].abs(), torch.full((1, 1, 256), 60.0))


def test_set_dropout_reaches_every_rate_and_only_acts_in_training():
    model = tiny_model(dropout=0.0)
    set_dropout(model, 0.5)
    bits = torch.randint(0, 2, (1, 64))
    assert torch.equal(model(bits)[0], model(bits)[0])
    model.train()
    assert not torch.equal(model(bits)[0], model(bits)[0])
    set_dropout(model, 0.0)
    assert torch.equal(model(bits)[0], model(bits)[0])


def test_the_flops_ledger_counts_the_orthogonalisation():
    """Each of 5 iterations has 3 matrix products. Each multiply-add counts as 2 operations."""
    config = ModelConfig(d_model=8, nhead=2, num_layers=3, dim_feedforward=16)
    shapes = [(8, 24), (8, 8), (8, 16), (8, 16)]
    products = sum(r * r * c + r * r * r + r * r * c for r, c in shapes)
    assert muon_flops_per_step(config) == 3 * 5 * 2 * products


def test_the_flops_ledger_counts_the_matrices():
    config = ModelConfig(d_model=8, nhead=2, num_layers=2, dim_feedforward=16, max_seq_len=256)
    model = tiny_model(**config.to_dict())
    network = model.network
    in_products = [*network.stack.parameters(), network.memory.project.weight, network.head.nodes]
    assert matrix_parameters(config) == sum(weight.numel() for weight in in_products)
    attention = 12 * 2 * 8 * 32
    assert training_flops_per_byte(config) == 6 * matrix_parameters(config) + attention


def test_one_bit_patches_cost_eight_positions_a_byte():
    flat = ModelConfig(patch_size=1, max_seq_len=256, memory_bits=())
    assert training_flops_per_byte(flat) == 8 * (
        6 * matrix_parameters(flat) + 12 * flat.num_layers * flat.d_model * 256
    )
