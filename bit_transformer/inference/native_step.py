"""One decoding step of the plain stack as compiled loops, for a single sequence on a CPU.

At batch 1 a step of a small network is a hundred tiny operators, and calling them costs more than
their arithmetic. Here each block is one compiled function over the network's own weights and cache,
so that steps and ordinary passes may alternate.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from bit_transformer.model.attention import chunked_attention, full_attention
from bit_transformer.model.block import Block
from bit_transformer.model.cache import KVCache, LayerCache
from bit_transformer.model.stack import PlainStack
from bit_transformer.model.transformer import BitTransformer

Vector = np.ndarray[Any, np.dtype[np.float32]]
Matrix = np.ndarray[Any, np.dtype[np.float32]]


def _compiled(function: Callable[..., Vector]) -> Callable[..., Vector]:
    """The function as machine code. Sums may be reordered into vector lanes; NaN and infinity keep
    their meaning. A runtime type checker may have wrapped the function before."""
    lanes = {"reassoc", "contract", "nsz", "arcp"}
    compiled: Callable[..., Vector] = numba.njit(cache=True, fastmath=lanes)(
        inspect.unwrap(function)
    )
    return compiled


@_compiled
def _multiply(matrix: Matrix, x: Vector) -> Vector:
    rows, columns = matrix.shape
    out = np.empty(rows, np.float32)
    for i in range(rows):
        total = np.float32(0)
        for j in range(columns):
            total += matrix[i, j] * x[j]
        out[i] = total
    return out


@_compiled
def _normalized(x: Vector) -> Vector:
    total = np.float32(0)
    for i in range(x.size):
        total += x[i] * x[i]
    mean = max(np.sqrt(total / np.float32(x.size)), np.float32(1e-6))
    return x * (np.float32(1) / mean)


@_compiled
def _rotated(x: Vector, cosine: Vector, sine: Vector) -> Vector:
    half = x.size // 2
    out = np.empty_like(x)
    for i in range(half):
        out[i] = x[i] * cosine[i] + x[i + half] * sine[i]
        out[i + half] = x[i + half] * cosine[i + half] + x[i] * sine[i + half]
    return out


@_compiled
def _attended(query: Vector, keys: Matrix, values: Matrix) -> Vector:
    length, width = keys.shape
    scale = np.float32(1) / np.sqrt(np.float32(width))
    weights = _multiply(keys, query) * scale
    top = weights.max()
    total = np.float32(0)
    out = np.zeros(width, np.float32)
    for position in range(length):
        weight = np.exp(weights[position] - top)
        total += weight
        for i in range(width):
            out[i] += weight * values[position, i]
    for i in range(width):
        out[i] /= total
    return out


@_compiled
def _block_step(
    x: Vector,
    weights: tuple[Matrix, Matrix, Matrix, Matrix],
    keys: np.ndarray,
    values: np.ndarray,
    position: int,
    rotation: tuple[Vector, Vector],
) -> Vector:
    """The residual stream (D,) after one block; keys and values are (H, capacity, K)."""
    project_qkv, project_out, widen, narrow = weights
    heads, _, width = keys.shape
    qkv = _multiply(project_qkv, _normalized(x)).reshape(3, heads, width)
    mixed = np.empty((heads, width), np.float32)
    for head in range(heads):
        keys[head, position] = _rotated(_normalized(qkv[1, head]), rotation[0], rotation[1])
        values[head, position] = qkv[2, head]
        query = _rotated(_normalized(qkv[0, head]), rotation[0], rotation[1])
        mixed[head] = _attended(query, keys[head, : position + 1], values[head, : position + 1])
    x = x + _multiply(project_out, mixed.reshape(heads * width))
    hidden = np.maximum(_multiply(widen, _normalized(x)), np.float32(0))
    return x + _multiply(narrow, hidden * hidden)


class NativeStep:
    """Reads one more patch of a single sequence; equals a forward pass up to rounding."""

    def __init__(self, network: BitTransformer) -> None:
        self._network = network
        self._weights = [_block_weights(block) for block in network.stack]
        self._cosine, self._sine = (
            table.numpy() for table in (network.rotary.cosine, network.rotary.sine)
        )

    @staticmethod
    def supports(network: BitTransformer) -> bool:
        """Whether every part of the trunk is the plain one, in float32, on a CPU."""
        linear = [module for module in network.stack.modules() if not list(module.children())]
        return (
            type(network.stack) is PlainStack
            and network.attention_kernel in (full_attention, chunked_attention)
            and not network.training
            and all(type(module) in (nn.Linear, nn.Dropout) for module in linear)
            and all(
                weight.device.type == "cpu" and weight.dtype == torch.float32
                for weight in network.parameters()
            )
        )

    def __call__(self, patch: Integer[Tensor, "1 1"], cache: KVCache) -> Float[Tensor, "1 1 nodes"]:
        """Node logits of the patch after this one; the cache must hold the start position."""
        position = cache.length
        x = self._network.read_patches(patch, cache, at_start=False)[0, 0].numpy()
        rotation = self._cosine[position], self._sine[position]
        for weights, layer in zip(self._weights, cache.layers, strict=True):
            keys, values = _stores(layer)
            x = _block_step(x, weights, keys, values, position, rotation)
            layer.length += 1
        logits: Tensor = self._network.head(torch.from_numpy(x)[None, None])
        return logits


def _block_weights(block: Block) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """The matrices of a block, without a copy."""
    attention, feed_forward = block.attention, block.feed_forward
    layers = (attention.project_qkv, attention.project_out, feed_forward.widen, feed_forward.narrow)
    first, second, third, fourth = (layer.weight.detach().numpy() for layer in layers)
    return first, second, third, fourth


def _stores(layer: LayerCache) -> tuple[np.ndarray, np.ndarray]:
    return layer.keys[0].numpy(), layer.values[0].numpy()
