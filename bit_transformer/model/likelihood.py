"""Logits of every bit of a sequence in one pass."""

from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from bit_transformer.model.patches import patch_values, path_logits
from bit_transformer.model.transformer import BitTransformer


def bit_logits(network: BitTransformer, bits: Integer[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Logit of a one for each bit given the bits before it, the first bit from the start position.

    T need not be a multiple of the patch size; the last patch never enters the trunk.
    """
    patch_size = network.config.patch_size
    length = bits.shape[1]
    patches = patch_values(functional.pad(bits, (0, -length % patch_size)), patch_size)
    logits = path_logits(network(patches[:, :-1]), patches, patch_size)
    return logits.flatten(1)[:, :length]
