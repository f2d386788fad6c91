"""One step of a network for all lanes of a block at once, the same to the last bit on every machine.

Sums are taken in one fixed order and nothing may be fused or reordered: that is all IEEE 754 needs
to agree everywhere. Speed comes from the layout instead. Lanes are the last axis of every array, so
that the lanes, which never meet, fill the vector registers. For the same reason a lane's result
does not depend on how many others there are.

Letters as in `model`: D width, F hidden width, N layers, H heads, K head width, S positions that
attention holds, O memory orders, W memory width; and L lanes.
"""

import inspect
from typing import Any, NamedTuple

import numba
import numpy as np

from bit_transformer.compression.fixed_point import STRETCH_LIMIT, STRETCH_SCALE

_LOG2_E = np.float32(1.4426950408889634)
_LEAST_EXPONENT = np.float32(-126.0)
_SMALLEST = np.float32(1e-6)
"""As in `model.norm`."""
_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
_HASH_SHIFT = 40
"""As in `model.memory`."""


class Weights(NamedTuple):
    """Of a network, in float32."""

    leaves: np.ndarray
    """(2**P, D) embeddings of patch values."""
    root: np.ndarray
    """(D,) embedding of the start position."""
    multipliers: np.ndarray
    """(O, longest) of the memory's hashes."""
    rows: np.ndarray
    """(O, slots, W) of the memory."""
    project_memory: np.ndarray
    """(D, O W)"""
    project_qkv: np.ndarray
    """(N, 3 D, D)"""
    project_out: np.ndarray
    """(N, D, D)"""
    widen: np.ndarray
    """(N, F, D)"""
    narrow: np.ndarray
    """(N, D, F)"""
    head: np.ndarray
    """(nodes, D), row 0 unused."""
    turn: np.ndarray
    """(2, K / 2) cosine and sine by which one position turns keys and queries, in float64."""


class LaneState(NamedTuple):
    """What has been read of L lanes, and the workings of the present step."""

    recent: np.ndarray
    """(longest, L) newest patches plus one, oldest first; 0 before the start."""
    keys: np.ndarray
    """(N, H, S, K, L), a ring over S."""
    values: np.ndarray
    position: np.ndarray
    """(1,) positions read."""
    angle: np.ndarray
    """(2, K / 2) cosine and sine of the present position, in float64."""
    first: np.ndarray
    """(D, L) residual stream."""
    second: np.ndarray
    """(D, L) second stream of a reversible stack."""
    normal: np.ndarray
    """(D, L)"""
    qkv: np.ndarray
    """(3 D, L)"""
    joined: np.ndarray
    """(O W, L) rows of the memory."""
    hidden: np.ndarray
    """(F, L)"""
    scores: np.ndarray
    """(S, L) of attention."""
    exponents: np.ndarray
    """(max(S, nodes), L) bits of powers of two; `powers` is the same memory as floating-point numbers."""
    powers: np.ndarray
    scale: np.ndarray
    """(L,) of a normalisation, or the sum of a softmax."""
    top: np.ndarray
    """(L,) the highest score."""
    logits: np.ndarray
    """(nodes, L) of the next patch."""
    softened: np.ndarray
    """(nodes, L) for capping them."""


def _exact(function: Any) -> Any:
    """Machine code without any leave to reorder or fuse, which runs beside other threads."""
    return numba.njit(cache=True, nogil=True, error_model="numpy")(inspect.unwrap(function))


@_exact
def _multiply(matrix: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out = matrix @ x, each sum from the first column to the last."""
    rows, columns = matrix.shape
    whole = columns // 8 * 8
    for row in range(rows):
        total, weights = out[row], matrix[row]
        total[:] = _ZERO
        for column in range(0, whole, 8):
            a, b = weights[column], weights[column + 1]
            c, d = weights[column + 2], weights[column + 3]
            e, f = weights[column + 4], weights[column + 5]
            g, h = weights[column + 6], weights[column + 7]
            for lane in range(x.shape[1]):
                value = total[lane] + a * x[column, lane]
                value = value + b * x[column + 1, lane]
                value = value + c * x[column + 2, lane]
                value = value + d * x[column + 3, lane]
                value = value + e * x[column + 4, lane]
                value = value + f * x[column + 5, lane]
                value = value + g * x[column + 6, lane]
                total[lane] = value + h * x[column + 7, lane]
        for column in range(whole, columns):
            for lane in range(x.shape[1]):
                total[lane] += weights[column] * x[column, lane]


@_exact
def _normalize(x: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    """`model.norm.rms_norm` of each lane's column; `out` may be `x`, `scale` (L,) is for workings."""
    width = np.float32(x.shape[0])
    scale[:] = _ZERO
    for row in range(x.shape[0]):
        for lane in range(x.shape[1]):
            scale[lane] += x[row, lane] * x[row, lane]
    for lane in range(x.shape[1]):
        scale[lane] = _ONE / max(np.sqrt(scale[lane] / width), _SMALLEST)
    for row in range(x.shape[0]):
        for lane in range(x.shape[1]):
            out[row, lane] = x[row, lane] * scale[lane]


@_exact
def _add(x: np.ndarray, added: np.ndarray) -> None:
    for row in range(x.shape[0]):
        for lane in range(x.shape[1]):
            x[row, lane] += added[row, lane]


@_exact
def _exponentiate(x: np.ndarray, state: LaneState) -> None:
    """e to the power of numbers (rows, L) that are 0 at most, in place: 2**n from the bits of a
    float, times a polynomial for the rest, within 3e-7 of the value."""
    exponents, powers = state.exponents, state.powers
    for row in range(x.shape[0]):
        for lane in range(x.shape[1]):
            power = max(x[row, lane] * _LOG2_E, _LEAST_EXPONENT)
            whole = np.floor(power + _HALF)
            rest = power - whole
            value = np.float32(1.5403530e-4) * rest + np.float32(1.3333558e-3)
            value = value * rest + np.float32(9.6181291e-3)
            value = value * rest + np.float32(5.5504109e-2)
            value = value * rest + np.float32(2.4022651e-1)
            value = value * rest + np.float32(6.9314718e-1)
            x[row, lane] = value * rest + _ONE
            exponents[row, lane] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    for row in range(x.shape[0]):
        for lane in range(x.shape[1]):
            x[row, lane] *= powers[row, lane]


@_exact
def _read(weights: Weights, state: LaneState, patches: np.ndarray, at_start: bool) -> None:
    """What the trunk reads of the patches, or of the start position, in both streams."""
    recent, joined, stream = state.recent, state.joined, state.first
    lanes = patches.size
    if not at_start:
        for place in range(recent.shape[0] - 1):
            recent[place] = recent[place + 1]
        if recent.shape[0]:
            recent[recent.shape[0] - 1] = patches + 1
    orders, slots, width = weights.rows.shape
    for order in range(orders):
        for lane in range(lanes):
            key = np.int64(0)
            for place in range(recent.shape[0]):
                key += recent[place, lane] * weights.multipliers[order, place]
            row = weights.rows[order, (key >> _HASH_SHIFT) & (slots - 1)]
            for channel in range(width):
                joined[order * width + channel, lane] = row[channel]
    _multiply(weights.project_memory, joined, state.normal)
    for lane in range(lanes):
        embedding = weights.root if at_start else weights.leaves[patches[lane]]
        for channel in range(stream.shape[0]):
            stream[channel, lane] = embedding[channel] + state.normal[channel, lane]
    _normalize(stream, state.scale, stream)
    state.second[:] = stream


@_exact
def _turn(x: np.ndarray, angle: np.ndarray) -> None:
    """Turn the pairs of channels (i, i + K/2) of x (K, L) to their position."""
    half = x.shape[0] // 2
    for channel in range(half):
        cosine, sine = np.float32(angle[0, channel]), np.float32(angle[1, channel])
        for lane in range(x.shape[1]):
            left, right = x[channel, lane], x[channel + half, lane]
            x[channel, lane] = left * cosine - right * sine
            x[channel + half, lane] = right * cosine + left * sine


@_exact
def _weigh(state: LaneState, query: np.ndarray, keys: np.ndarray) -> None:
    """Softmax of a head's scores over the positions of keys (S, K, L), not yet divided by its sum,
    which is in `scale` then."""
    scores, top, total = state.scores, state.top, state.scale
    positions = keys.shape[0]
    root = _ONE / np.sqrt(np.float32(keys.shape[1]))
    top[:] = np.float32(-np.inf)
    for position in range(positions):
        _score(query, keys[position], scores[position])
        for lane in range(top.size):
            scores[position, lane] *= root
            top[lane] = max(top[lane], scores[position, lane])
    for position in range(positions):
        for lane in range(top.size):
            scores[position, lane] -= top[lane]
    _exponentiate(scores[:positions], state)
    total[:] = _ZERO
    for position in range(positions):
        for lane in range(top.size):
            total[lane] += scores[position, lane]


@_exact
def _score(query: np.ndarray, key: np.ndarray, out: np.ndarray) -> None:
    """Inner products of query and key, both (K, L), K even."""
    out[:] = _ZERO
    for channel in range(0, query.shape[0], 2):
        for lane in range(out.size):
            value = out[lane] + query[channel, lane] * key[channel, lane]
            out[lane] = value + query[channel + 1, lane] * key[channel + 1, lane]


@_exact
def _average(state: LaneState, values: np.ndarray, out: np.ndarray) -> None:
    """The mean of values (S, K, L) by the scores."""
    scores, total = state.scores, state.scale
    out[:] = _ZERO
    for position in range(values.shape[0]):
        for channel in range(out.shape[0]):
            for lane in range(out.shape[1]):
                out[channel, lane] += scores[position, lane] * values[position, channel, lane]
    for channel in range(out.shape[0]):
        for lane in range(out.shape[1]):
            out[channel, lane] /= total[lane]


@_exact
def _attend(weights: Weights, state: LaneState, layer: int, x: np.ndarray) -> None:
    """What attention adds to `x`, in `normal` then."""
    width, qkv = x.shape[0], state.qkv
    heads, slots, head_width, _ = state.keys[layer].shape
    position = state.position[0]
    slot, held = position % slots, min(position + 1, slots)
    _normalize(x, state.scale, state.normal)
    _multiply(weights.project_qkv[layer], state.normal, qkv)
    for head in range(heads):
        begin, end = head * head_width, (head + 1) * head_width
        query, key = qkv[begin:end], qkv[width + begin : width + end]
        for part in (query, key):
            _normalize(part, state.scale, part)
            _turn(part, state.angle)
        state.keys[layer, head, slot] = key
        state.values[layer, head, slot] = qkv[2 * width + begin : 2 * width + end]
        _weigh(state, query, state.keys[layer, head, :held])
        _average(state, state.values[layer, head, :held], query)
    _multiply(weights.project_out[layer], qkv[:width], state.normal)


@_exact
def _feed_forward(weights: Weights, state: LaneState, layer: int, x: np.ndarray) -> None:
    """What the feed-forward branch adds to `x`, in `normal` then."""
    hidden = state.hidden
    _normalize(x, state.scale, state.normal)
    _multiply(weights.widen[layer], state.normal, hidden)
    for row in range(hidden.shape[0]):
        for lane in range(hidden.shape[1]):
            positive = max(hidden[row, lane], _ZERO)
            hidden[row, lane] = positive * positive
    _multiply(weights.narrow[layer], hidden, state.normal)


@_exact
def _advance_angle(weights: Weights, state: LaneState) -> None:
    angle, turn = state.angle, weights.turn
    for channel in range(angle.shape[1]):
        cosine, sine = angle[0, channel], angle[1, channel]
        angle[0, channel] = cosine * turn[0, channel] - sine * turn[1, channel]
        angle[1, channel] = sine * turn[0, channel] + cosine * turn[1, channel]


@_exact
def step(
    weights: Weights, state: LaneState, patches: np.ndarray, at_start: bool, reversible: bool
) -> None:
    """Read one patch of each lane (L,), or the start position; the logits of every node of the next
    patch are in `state.logits` then."""
    first = state.first
    second = state.second if reversible else first
    _read(weights, state, patches, at_start)
    for layer in range(state.keys.shape[0]):
        _attend(weights, state, layer, second)
        _add(first, state.normal)
        _feed_forward(weights, state, layer, first)
        _add(second, state.normal)
    if reversible:
        for channel in range(first.shape[0]):
            for lane in range(first.shape[1]):
                first[channel, lane] = (first[channel, lane] + second[channel, lane]) * _HALF
    _normalize(first, state.scale, state.normal)
    _multiply(weights.head, state.normal, state.logits)
    _advance_angle(weights, state)
    state.position[0] += 1


@_exact
def scaled_log_odds(state: LaneState, logit_cap: float, out: np.ndarray) -> None:
    """The logits (nodes, L), capped as the head caps them, as `fixed_point` has log-odds
    (L, nodes)."""
    logits, softened = state.logits, state.softened
    cap = np.float32(logit_cap)
    if cap > _ZERO:
        for node in range(logits.shape[0]):
            for lane in range(logits.shape[1]):
                softened[node, lane] = np.float32(-2) * abs(logits[node, lane]) / cap
        _exponentiate(softened, state)
        for node in range(logits.shape[0]):
            for lane in range(logits.shape[1]):
                power = softened[node, lane]
                bound = cap * ((_ONE - power) / (_ONE + power))
                logits[node, lane] = bound if logits[node, lane] >= _ZERO else -bound
    limit = np.float32(STRETCH_LIMIT - 1)
    for node in range(logits.shape[0]):
        for lane in range(logits.shape[1]):
            rounded = np.floor(logits[node, lane] * np.float32(STRETCH_SCALE) + _HALF)
            out[lane, node] = np.int32(min(max(rounded, -limit), limit))
