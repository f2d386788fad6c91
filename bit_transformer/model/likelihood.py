"""Logits of every bit of a sequence in one pass."""

from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.model.patches import patch_values, path_logits
from bit_transformer.model.transformer import BitTransformer


def bit_logits(
    network: BitTransformer, bits: Integer[Tensor, "B T"], *, causal: bool = True
) -> Float[Tensor, "B T"]:
    """Logit of a one for each bit given the bits before it, the first bit from the start position.

    T need not be a multiple of the patch size; the last patch never enters the trunk. Unless
    `causal`, what a logit is given is every patch but the last one.
    """
    patch_size = network.config.patch_size
    length = bits.shape[1]
    patches = patch_values(functional.pad(bits, (0, -length % patch_size)), patch_size)
    logits = path_logits(network(patches[:, :-1], causal=causal), patches, patch_size)
    return logits.flatten(1)[:, :length]


def exit_logits(
    network: BitTransformer, bits: Integer[Tensor, "B T"]
) -> tuple[Float[Tensor, "E B T"], Float[Tensor, "E B T"]]:
    """`bit_logits` from each place where a patch may leave the trunk, and the probability that the
    patch of each bit leaves it there."""
    patch_size = network.config.patch_size
    length = bits.shape[1]
    patches = patch_values(functional.pad(bits, (0, -length % patch_size)), patch_size)
    nodes, stops = network.exits(patches[:, :-1])
    logits = path_logits(nodes, patches.expand(len(nodes), -1, -1), patch_size).flatten(2)
    stops = stops.permute(2, 0, 1).repeat_interleave(patch_size, dim=2)
    return logits[:, :, :length], stops[:, :, :length]
