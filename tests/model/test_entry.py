"""Tests of the network's forward pass: all exits, given embeddings, hooks and pruned widths."""

import dataclasses

import pytest
import torch

from bit_transformer.compression.lane_network import LaneNetwork
from bit_transformer.errors import ConfigError, UnsupportedCombination
from bit_transformer.inference.native_step import NativeStep
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.config import LayerWidths
from bit_transformer.model.transformer import bit_logits, exit_bit_logits
from bit_transformer.network_spec import NetworkSpec, build_network, spec_of
from bit_transformer.quantization import quantize_dynamic
from tests.builders import STACKS, tiny_model

PATCHES = torch.randint(0, 256, (3, 12), generator=torch.Generator().manual_seed(0))
BITS = torch.randint(0, 2, (2, 160), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stack", STACKS)
def test_all_exits_end_where_a_pass_without_halting_ends(stack):
    network = tiny_model(stack=stack, **({"act_threshold": 1.0} if stack == "halting" else {}))
    network = network.network
    logits, halt_probs = network(PATCHES, all_exits=True)
    torch.testing.assert_close(logits[-1], network(PATCHES))
    torch.testing.assert_close(halt_probs.sum(-1), torch.ones(3, 13))
    torch.testing.assert_close(exit_bit_logits(network, BITS)[0][-1], bit_logits(network, BITS))
    with pytest.raises(UnsupportedCombination, match="all_exits reads whole sequences"):
        network(PATCHES, network.new_cache(3), all_exits=True)


@pytest.mark.parametrize("stack", STACKS)
def test_training_and_inference_fire_the_hooks_of_the_network(stack):
    network, fired = tiny_model(stack=stack).network, []
    network.register_forward_hook(lambda *_: fired.append(1))
    bit_logits(network, BITS)
    exit_bit_logits(network, BITS)
    assert fired == [1, 1]


def test_embeddings_can_be_given_from_outside():
    network = tiny_model().network
    assert torch.equal(network(PATCHES, embed=network.embedding), network(PATCHES))

    def first_bit_unknown(patches):
        """Return the mean embedding over both values of the first bit."""
        both = torch.stack((patches & 127, patches | 128))
        return network.embedding(both.flatten(0, 1)).view(2, *patches.shape, -1).mean(0)

    changed = PATCHES ^ 128
    memory = torch.full_like(PATCHES, -1)
    known = network(memory, embed=lambda _: first_bit_unknown(PATCHES))
    assert torch.equal(known, network(memory, embed=lambda _: first_bit_unknown(changed)))
    assert not torch.equal(network(PATCHES), network(changed))
    known.sum().backward()
    assert network.embedding.nodes.grad.abs().sum() > 0


def _pruned() -> BitTransformerLM:
    model = tiny_model(num_layers=3, nhead=4, d_model=32)
    layers = (LayerWidths(4, 32), LayerWidths(1, 20), LayerWidths(3, 8))
    network = build_network(NetworkSpec(model.config, None, layers))
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return BitTransformerLM(network=network).eval()


def test_a_network_with_its_own_widths_is_saved_rebuilt_and_decodes(tmp_path):
    model = _pruned()
    model.save_pretrained(tmp_path / "model")
    loaded = BitTransformerLM.from_pretrained(tmp_path / "model")
    assert spec_of(loaded.network) == spec_of(model.network)
    assert spec_of(loaded.network).layers[1] == LayerWidths(1, 20)
    assert torch.equal(loaded.log2_likelihood(BITS), model.log2_likelihood(BITS))
    network, expected = model.network, model.network(PATCHES[:1])
    cache = network.new_cache(1)
    first = network(PATCHES[:1, :4], cache)
    rest = network(PATCHES[:1, 4:], cache)
    torch.testing.assert_close(torch.cat((first, rest), 1), expected)
    assert NativeStep.supports(network)
    model.save_pretrained(tmp_path / "int8")
    smaller = quantize_dynamic(model)
    assert spec_of(smaller.network).layers == spec_of(network).layers
    with pytest.raises(UnsupportedCombination, match="before pruning"):
        LaneNetwork(network)


@pytest.mark.parametrize("halts", [False, True])
def test_the_compiled_step_knows_pruned_blocks(halts):
    settings = {"use_act": True, "act_threshold": 0.5} if halts else {}
    config = dataclasses.replace(_pruned().config, **settings)
    network = build_network(NetworkSpec(config, None, spec_of(_pruned().network).layers)).eval()
    torch.manual_seed(1)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    plain, stepped = network.new_cache(1), network.new_cache(1)
    step = NativeStep(network)
    with torch.no_grad():
        network(PATCHES[:1, :0], plain), network(PATCHES[:1, :0], stepped)
        for index in range(PATCHES.shape[1]):
            patch = PATCHES[:1, index : index + 1]
            found, expected = step(patch, stepped), network(patch, plain)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_specs_round_trip_and_refuse_what_they_do_not_describe():
    spec = spec_of(_pruned().network)
    assert NetworkSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(ConfigError, match="the number of layer widths must be num_layers=3, got 1"):
        dataclasses.replace(spec, layers=spec.layers[:1])
    for wrong in ({}, {"model": 3}, {"model": {}, "layers": [{"heads": 2}]}):
        with pytest.raises(ConfigError):
            NetworkSpec.from_dict(wrong)


def test_a_built_network_excludes_settings():
    with pytest.raises(ConfigError, match="excludes model settings"):
        BitTransformerLM(network=_pruned().network, d_model=64)
