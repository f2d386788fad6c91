"""One decoding step of a single sequence on a CPU, as compiled loops.

At batch size 1 a small network is a hundred tiny operators, and dispatching them costs more than
their arithmetic. Here each branch is one compiled function. It works on the network's own weights
and cache, so compiled steps and ordinary forward passes can alternate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from bit_transformer.model.attention import chunked_attention, full_attention
from bit_transformer.model.block import Block
from bit_transformer.model.cache import KVCache, LayerCache
from bit_transformer.model.halting import HaltingStack
from bit_transformer.model.stack import PlainStack, ReversibleStack
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.native.functions import reassociated, reassociated_callee
from bit_transformer.quantization import Int4Linear, Int8Linear

_COMPILED = (nn.Linear, Int8Linear, Int4Linear, nn.Dropout)
"""Leaf modules of a stack for which compiled code exists."""

Vector = np.ndarray[Any, np.dtype[np.float32]]
Matrix = np.ndarray[Any, np.dtype[np.float32]]


@reassociated
def _multiply(matrix: Matrix, x: Vector) -> Vector:
    rows, columns = matrix.shape
    out = np.empty(rows, np.float32)
    for i in range(rows):
        total = np.float32(0)
        for j in range(columns):
            total += matrix[i, j] * x[j]
        out[i] = total
    return out


@reassociated_callee
def _multiply_int8(matrix: np.ndarray, scale: Vector, x: Vector) -> Vector:
    """Compute `Int8Linear` for one row; `x` is quantized to 8 bits too."""
    rows, columns = matrix.shape
    top = np.float32(0)
    for j in range(columns):
        top = max(top, abs(x[j]))
    step = top / np.float32(127) if top > 0 else np.float32(1)
    rounded = np.empty(columns, np.int16)
    for j in range(columns):
        rounded[j] = np.int16(np.rint(x[j] / step))
    out = np.empty(rows, np.float32)
    for i in range(rows):
        total = np.int32(0)
        for j in range(columns):
            total += np.int32(matrix[i, j]) * np.int32(rounded[j])
        out[i] = np.float32(total) * (step * scale[i])
    return out


Weight = tuple[np.ndarray, Vector]
"""A matrix and the scales of its rows. The scales are empty unless the matrix is int8."""


@reassociated_callee
def _apply(weight: Weight, x: Vector) -> Vector:
    """Multiply the weight matrix by `x`."""
    if weight[1].size:
        return _multiply_int8(weight[0], weight[1], x)
    return _multiply(weight[0], x)


@reassociated
def _normalized(x: Vector) -> Vector:
    total = np.float32(0)
    for i in range(x.size):
        total += x[i] * x[i]
    mean = max(np.sqrt(total / np.float32(x.size)), np.float32(1e-6))
    return x * (np.float32(1) / mean)


@reassociated_callee
def _copy(x: Vector, out: Vector) -> None:
    """Copy by a loop. Numba takes a second to compile a slice assignment, which checks shapes."""
    for i in range(x.size):
        out[i] = x[i]


@reassociated_callee
def _rotate(x: Vector, cosine: Vector, sine: Vector, out: Vector) -> None:
    half = x.size // 2
    for i in range(half):
        out[i] = x[i] * cosine[i] + x[i + half] * sine[i]
        out[i + half] = x[i + half] * cosine[i + half] + x[i] * sine[i + half]


@reassociated_callee
def _attend(query: Vector, keys: Matrix, values: Matrix, out: Vector) -> None:
    """Write softmax attention of one query to `out`."""
    length, width = keys.shape
    scale = np.float32(1) / np.sqrt(np.float32(width))
    weights = _multiply(keys, query)
    top = weights[0] * scale
    for position in range(length):
        weights[position] *= scale
        top = max(top, weights[position])
    total = np.float32(0)
    for i in range(width):
        out[i] = np.float32(0)
    for position in range(length):
        weight = np.exp(weights[position] - top)
        total += weight
        for i in range(width):
            out[i] += weight * values[position, i]
    for i in range(width):
        out[i] /= total


@reassociated_callee
def _store(
    kv: Vector,
    head: int,
    keys: Matrix,
    values: Matrix,
    position: int,
    rotation: tuple[Vector, Vector],
) -> None:
    """Store the key and value of a head. `kv` holds the keys of all heads, then their values."""
    width = keys.shape[1]
    begin = head * width
    key = _normalized(kv[begin : begin + width])
    _rotate(key, rotation[0], rotation[1], keys[position])
    begin += kv.size // 2
    _copy(kv[begin : begin + width], values[position])


@reassociated
def _attention_step(
    x: Vector,
    project_qkv: Weight,
    project_out: Weight,
    keys: np.ndarray,
    values: np.ndarray,
    position: int,
    rotation: tuple[Vector, Vector],
) -> Vector:
    """Return the attention branch at `x` (D,). Keys and values are (H, capacity, K)."""
    heads, _, width = keys.shape
    qkv = _apply(project_qkv, _normalized(x))
    mixed = np.empty(heads * width, np.float32)
    for head in range(heads):
        begin = head * width
        query, out = qkv[begin : begin + width], mixed[begin : begin + width]
        _store(qkv[heads * width :], head, keys[head], values[head], position, rotation)
        _rotate(_normalized(query), rotation[0], rotation[1], query)
        _attend(query, keys[head, : position + 1], values[head, : position + 1], out)
    return _apply(project_out, mixed)


@reassociated
def _store_step(
    x: Vector,
    project_qkv: Weight,
    keys: np.ndarray,
    values: np.ndarray,
    position: int,
    rotation: tuple[Vector, Vector],
) -> Vector:
    """Store the keys and values of a position that has exited, for later positions to read. Return
    `x` unchanged."""
    heads = keys.shape[0]
    queries = heads * keys.shape[2]
    lower = (project_qkv[0][queries:], project_qkv[1][queries:])
    kv = _apply(lower, _normalized(x))
    for head in range(heads):
        _store(kv, head, keys[head], values[head], position, rotation)
    return x


@reassociated
def _feed_forward_step(x: Vector, up_proj: Weight, down_proj: Weight) -> Vector:
    """Return the feed-forward branch at `x` (D,): RMSNorm, up-projection, squared ReLU,
    down-projection."""
    hidden = np.maximum(_apply(up_proj, _normalized(x)), np.float32(0))
    return _apply(down_proj, hidden * hidden)


@reassociated
def _head_step(x: Vector, nodes: Matrix, leaves: Matrix, cap: float) -> Vector:
    """Return the node logits of a head with leaves at `x` (D,). Composed operators take as long as
    the rest of the step for it: they are five for each level of the tree."""
    x = _normalized(x)
    logits, masses = _multiply(nodes, x), _multiply(leaves, x)
    width = masses.size // 2
    while width >= 1:
        for i in range(width):
            odds = masses[2 * i + 1] - masses[2 * i]
            logits[width + i] += odds
            larger = max(masses[2 * i], masses[2 * i + 1])
            masses[i] = larger + np.log1p(np.exp(-abs(odds)))
        width //= 2
    if cap > 0:
        for node in range(logits.size):
            logits[node] = np.float32(cap * np.tanh(logits[node] / cap))
    return logits


@dataclass(frozen=True)
class _Position:
    """The position of a step, with the cosines and sines of its rotary embedding."""

    index: int
    rotation: tuple[Vector, Vector]


class _NativeBlock:
    """The branches of one block, on the block's own weights without a copy."""

    def __init__(self, block: Block) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        self._qkv, self._out = _weight(attention.project_qkv), _weight(attention.project_out)
        self._up_proj = _weight(feed_forward.up_proj)
        self._down_proj = _weight(feed_forward.down_proj)

    def attention(self, x: Vector, layer: LayerCache, at: _Position) -> Vector:
        stores = _stores(layer)
        return _attention_step(x, self._qkv, self._out, *stores, at.index, at.rotation)

    def store(self, x: Vector, layer: LayerCache, at: _Position) -> None:
        _store_step(x, self._qkv, *_stores(layer), at.index, at.rotation)

    def feed_forward(self, x: Vector) -> Vector:
        return _feed_forward_step(x, self._up_proj, self._down_proj)


_Steps = Callable[[Vector, KVCache, _Position], Vector]
"""Runs one position through all blocks: (x, cache, position) -> the residual stream."""


class NativeStep:
    """Reads one more patch of a single sequence. Equals a forward pass up to rounding."""

    _leaves: tuple[Matrix, Matrix, float] | None
    """Nodes, leaves and cap of a head that has leaves."""

    def __init__(self, network: BitTransformer) -> None:
        self._network = network
        self._blocks = [_NativeBlock(block) for block in network.stack]
        self._cosine, self._sine = (
            table.numpy() for table in (network.rotary.cosine, network.rotary.sine)
        )
        head, self._leaves = network.head, None
        if head.leaves is not None and not head.parity:
            matrices = head.nodes.detach().numpy(), head.leaves.detach().numpy()
            self._leaves = (*matrices, float(head.logit_cap))
        stack = network.stack
        self._run: _Steps = self._run_plain
        if isinstance(stack, ReversibleStack):
            self._run = self._run_reversible
        elif isinstance(stack, HaltingStack):
            self._units = stack.halting_weight.detach().numpy(), stack.halting_bias.tolist()
            self._min_log_survival = stack.min_log_survival
            self._run = self._run_halting

    @staticmethod
    def supports(network: BitTransformer) -> bool:
        """Return whether compiled code exists for all of the trunk, in float32 on a CPU."""
        leaves = [module for module in network.stack.modules() if not list(module.children())]
        return (
            type(network.stack) in (PlainStack, ReversibleStack, HaltingStack)
            and network.attention_kernel in (full_attention, chunked_attention)
            and not network.training
            and all(type(module) in _COMPILED for module in leaves)
            and all(
                weight.device.type == "cpu" and weight.dtype == torch.float32
                for weight in network.parameters()
            )
        )

    def __call__(self, patch: Integer[Tensor, "1 1"], cache: KVCache) -> Float[Tensor, "1 1 nodes"]:
        """Return the node logits of the next patch. The cache must hold the start position."""
        index = cache.length
        x = self._network.read_patches(patch, cache, at_start=False)[0, 0].numpy()
        x = self._run(x, cache, _Position(index, (self._cosine[index], self._sine[index])))
        for layer in cache.layers:
            layer.length += 1
        if self._leaves is not None:
            return torch.from_numpy(_head_step(x, *self._leaves))[None, None]
        logits: Tensor = self._network.head(torch.from_numpy(x)[None, None])
        return logits

    def _run_plain(self, x: Vector, cache: KVCache, at: _Position) -> Vector:
        for block, layer in zip(self._blocks, cache.layers, strict=True):
            x = x + block.attention(x, layer, at)
            x = x + block.feed_forward(x)
        return x

    def _run_reversible(self, x: Vector, cache: KVCache, at: _Position) -> Vector:
        first = second = x
        for block, layer in zip(self._blocks, cache.layers, strict=True):
            first = first + block.attention(second, layer, at)
            second = second + block.feed_forward(first)
        return (first + second) * np.float32(0.5)

    def _run_halting(self, x: Vector, cache: KVCache, at: _Position) -> Vector:
        log_survival, (weights, biases) = 0.0, self._units
        for index, (block, layer) in enumerate(zip(self._blocks, cache.layers, strict=True)):
            if log_survival <= self._min_log_survival:
                block.store(x, layer, at)
                continue
            x = x + block.attention(x, layer, at)
            x = x + block.feed_forward(x)
            if index < len(biases):
                logit = float(_multiply(weights[index : index + 1], _normalized(x))[0])
                log_survival -= math.log1p(math.exp(min(logit + biases[index], 700.0)))
        return x


def _weight(linear: nn.Module) -> Weight:
    if isinstance(linear, Int8Linear):
        return linear.weight.numpy(), linear.scale.numpy()
    assert isinstance(linear, nn.Linear | Int4Linear)
    return linear.weight.detach().numpy(), np.empty(0, np.float32)


def _stores(layer: LayerCache) -> tuple[np.ndarray, np.ndarray]:
    return layer.keys[0].numpy(), layer.values[0].numpy()
