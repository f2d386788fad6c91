"""The byte-softmax twin: the same trunk with a table of bytes and a softmax over them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bit_transformer import ModelConfig
from bit_transformer.model.bit_tree import patch_values
from bit_transformer.model.norm import rms_norm
from bit_transformer.model.transformer import BitTransformer


class ByteEmbedding(nn.Module):
    """One embedding per byte and one for the start position."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.nodes = nn.Parameter(torch.randn(257, d_model))

    def leaf_table(self) -> Tensor:
        return self.nodes

    def start(self, batch_size: int) -> Tensor:
        return self.nodes[256].expand(batch_size, 1, -1)

    def forward(self, patches: Tensor, leaf_table: Tensor | None = None) -> Tensor:
        return functional.embedding(patches, self.nodes)


class SoftmaxHead(nn.Module):
    """One logit per byte."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.nodes = nn.Parameter(torch.zeros(256, d_model))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(rms_norm(x), self.nodes).float()


def byte_softmax_network(config: ModelConfig) -> BitTransformer:
    """Build the network of `config`, with its bit trees replaced by a byte table and a softmax."""
    network = BitTransformer(config)
    network.embedding = ByteEmbedding(config.d_model)  # type: ignore[assignment]
    network.head = SoftmaxHead(config.d_model)  # type: ignore[assignment]
    return network


def next_byte_loss(network: BitTransformer, bits: Tensor) -> Tensor:
    """Cross-entropy of the bytes in bits per byte, as `next_bit_loss` is for the bit tree."""
    values = patch_values(bits, 8)
    logits = network(values[:, :-1])
    nats = functional.cross_entropy(logits.flatten(0, 1), values.flatten())
    return nats / math.log(2)
