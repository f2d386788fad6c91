"""One step of a network for the lanes of a block, the same to the last bit on every machine.

Every sum is taken in one fixed order, and nothing may be fused or reordered: that is all IEEE 754
needs to agree everywhere. Speed comes from layout. Matrices are stored by columns, so that a
product adds up one column after the other and the rows, which never meet, fill the vector
registers. Sums along a vector are eight interleaved ones, written out.

Letters as in `model`: D width, F hidden width, N layers, H heads, K head width, S positions that
attention holds, O memory orders, W memory width; and L lanes, whose results do not depend on how
many of them there are.
"""

from typing import NamedTuple

import numpy as np

from bit_transformer.compression.fixed_point import STRETCH_LIMIT, STRETCH_SCALE
from bit_transformer.native.functions import callee, compiled_lean

_LOG2_E = np.float32(1.4426950408889634)
_LEAST_EXPONENT = np.float32(-126.0)
_SMALLEST = np.float32(1e-6)
"""As in `model.norm`."""
_ZERO, _ONE, _HALF, _TWO = np.float32(0), np.float32(1), np.float32(0.5), np.float32(2)
_HASH_SHIFT = 40
"""As in `model.memory`."""


class Weights(NamedTuple):
    """Of a network, in float32; matrices are (columns, rows)."""

    leaves: np.ndarray
    """(2**P, D) embeddings of patch values."""
    root: np.ndarray
    """(D,) embedding of the start position."""
    multipliers: np.ndarray
    """(O, longest) of the memory's hashes."""
    rows: np.ndarray
    """(O, slots, W) of the memory."""
    project_memory: np.ndarray
    """(O W, D)"""
    project_qkv: np.ndarray
    """(N, D, 3 D)"""
    project_out: np.ndarray
    """(N, D, D)"""
    widen: np.ndarray
    """(N, D, F)"""
    narrow: np.ndarray
    """(N, F, D)"""
    head: np.ndarray
    """(D, nodes)"""
    turn: np.ndarray
    """(2, K / 2) cosine and sine by which one position turns keys and queries, in float64."""


class LaneState(NamedTuple):
    """What has been read of L lanes, and the workings of the present step."""

    recent: np.ndarray
    """(L, longest) newest patches plus one, oldest first; 0 before the start."""
    keys: np.ndarray
    """(N, H, L, K, S), a ring over S."""
    values: np.ndarray
    """(N, H, L, S, K), as the keys."""
    position: np.ndarray
    """(1,) positions read."""
    angle: np.ndarray
    """(2, K / 2) cosine and sine of the present position, in float64."""
    first: np.ndarray
    """(L, D) residual stream."""
    second: np.ndarray
    """(L, D) second stream of a reversible stack."""
    normal: np.ndarray
    """(L, D)"""
    qkv: np.ndarray
    """(L, 3 D)"""
    joined: np.ndarray
    """(L, O W) rows of the memory."""
    hidden: np.ndarray
    """(L, F)"""
    scores: np.ndarray
    """(S,) of attention."""
    exponents: np.ndarray
    """(max(S, nodes),) bits of powers of two."""
    powers: np.ndarray
    """The same memory as floating-point numbers."""
    logits: np.ndarray
    """(L, nodes) of the next patch."""
    softened: np.ndarray
    """(nodes,) for capping them."""


@callee
def _copy(x: np.ndarray, out: np.ndarray) -> None:
    """A loop: numba allocates memory for assigning a slice, in case the two overlap."""
    for i in range(x.size):
        out[i] = x[i]


@callee
def _multiply(matrix: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out (L, rows) = x (L, columns) times matrix (columns, rows), from the first column on."""
    columns, rows = matrix.shape
    whole = columns // 8 * 8
    out[:] = _ZERO
    for column in range(0, whole, 8):
        for lane in range(x.shape[0]):
            factors, total = x[lane], out[lane]
            a, b = factors[column], factors[column + 1]
            c, d = factors[column + 2], factors[column + 3]
            e, f = factors[column + 4], factors[column + 5]
            g, h = factors[column + 6], factors[column + 7]
            for row in range(rows):
                value = total[row] + a * matrix[column, row]
                value = value + b * matrix[column + 1, row]
                value = value + c * matrix[column + 2, row]
                value = value + d * matrix[column + 3, row]
                value = value + e * matrix[column + 4, row]
                value = value + f * matrix[column + 5, row]
                value = value + g * matrix[column + 6, row]
                total[row] = value + h * matrix[column + 7, row]
    for column in range(whole, columns):
        for lane in range(x.shape[0]):
            for row in range(rows):
                out[lane, row] += x[lane, column] * matrix[column, row]


@callee
def _sum(x: np.ndarray) -> np.float32:
    """Eight sums, every eighth number each, then the sum of those."""
    a = b = c = d = e = f = g = h = _ZERO
    whole = x.size // 8 * 8
    for i in range(0, whole, 8):
        a, b, c, d = a + x[i], b + x[i + 1], c + x[i + 2], d + x[i + 3]
        e, f, g, h = e + x[i + 4], f + x[i + 5], g + x[i + 6], h + x[i + 7]
    for i in range(whole, x.size):
        a += x[i]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@callee
def _sum_of_squares(x: np.ndarray) -> np.float32:
    """As `_sum`."""
    a = b = c = d = e = f = g = h = _ZERO
    whole = x.size // 8 * 8
    for i in range(0, whole, 8):
        a, b = a + x[i] * x[i], b + x[i + 1] * x[i + 1]
        c, d = c + x[i + 2] * x[i + 2], d + x[i + 3] * x[i + 3]
        e, f = e + x[i + 4] * x[i + 4], f + x[i + 5] * x[i + 5]
        g, h = g + x[i + 6] * x[i + 6], h + x[i + 7] * x[i + 7]
    for i in range(whole, x.size):
        a += x[i] * x[i]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@callee
def _normalize(x: np.ndarray, out: np.ndarray) -> None:
    """`model.norm.rms_norm` of a vector; `out` may be `x`."""
    mean = _sum_of_squares(x) / np.float32(x.size)
    scale = _ONE / max(np.sqrt(mean), _SMALLEST)
    for channel in range(x.size):
        out[channel] = x[channel] * scale


@callee
def _normalize_lanes(x: np.ndarray, out: np.ndarray) -> None:
    for lane in range(x.shape[0]):
        _normalize(x[lane], out[lane])


@callee
def _add(x: np.ndarray, added: np.ndarray) -> None:
    for lane in range(x.shape[0]):
        for channel in range(x.shape[1]):
            x[lane, channel] += added[lane, channel]


@callee
def _exponentiate(x: np.ndarray, state: LaneState) -> None:
    """e to the power of numbers that are 0 at most, in place: 2**n from the bits of a float, times
    a polynomial for the rest, within 3e-7 of the value."""
    exponents, powers = state.exponents, state.powers
    for i in range(x.size):
        power = max(x[i] * _LOG2_E, _LEAST_EXPONENT)
        whole = np.floor(power + _HALF)
        rest = power - whole
        value = np.float32(1.5403530e-4) * rest + np.float32(1.3333558e-3)
        value = value * rest + np.float32(9.6181291e-3)
        value = value * rest + np.float32(5.5504109e-2)
        value = value * rest + np.float32(2.4022651e-1)
        value = value * rest + np.float32(6.9314718e-1)
        x[i] = value * rest + _ONE
        exponents[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    for i in range(x.size):
        x[i] *= powers[i]


@callee
def _look_up(weights: Weights, state: LaneState) -> None:
    """The memory's rows for what each lane has read last, joined."""
    orders, slots, width = weights.rows.shape
    for lane in range(state.joined.shape[0]):
        recent, joined = state.recent[lane], state.joined[lane]
        for order in range(orders):
            key = np.int64(0)
            for place in range(recent.size):
                key += recent[place] * weights.multipliers[order, place]
            row = weights.rows[order, (key >> _HASH_SHIFT) & (slots - 1)]
            _copy(row, joined[order * width : (order + 1) * width])


@callee
def _read(weights: Weights, state: LaneState, patches: np.ndarray, at_start: bool) -> None:
    """What the trunk reads of the patches, or of the start position, in both streams."""
    recent, stream = state.recent, state.first
    newest = recent.shape[1] - 1
    for lane in range(patches.size):
        embedding = weights.root if at_start else weights.leaves[patches[lane]]
        _copy(embedding, stream[lane])
        if not at_start and newest >= 0:
            for place in range(newest):
                recent[lane, place] = recent[lane, place + 1]
            recent[lane, newest] = patches[lane] + 1
    _look_up(weights, state)
    _multiply(weights.project_memory, state.joined, state.normal)
    _add(stream, state.normal)
    _normalize_lanes(stream, stream)
    for lane in range(patches.size):
        _copy(stream[lane], state.second[lane])


@callee
def _turn(x: np.ndarray, angle: np.ndarray) -> None:
    """Turn the pairs of channels (i, i + K/2) to their position."""
    half = x.size // 2
    for channel in range(half):
        cosine, sine = np.float32(angle[0, channel]), np.float32(angle[1, channel])
        left, right = x[channel], x[channel + half]
        x[channel] = left * cosine - right * sine
        x[channel + half] = right * cosine + left * sine


@callee
def _weigh(state: LaneState, query: np.ndarray, keys: np.ndarray, held: int) -> np.float32:
    """Softmax of a head's scores over the first `held` positions of keys (K, S), not yet divided by
    its sum, which is the result."""
    scores = state.scores[:held]
    root = _ONE / np.sqrt(np.float32(query.size))
    scores[:] = _ZERO
    for channel in range(0, query.size, 2):
        a, b = query[channel] * root, query[channel + 1] * root
        for position in range(held):
            value = scores[position] + a * keys[channel, position]
            scores[position] = value + b * keys[channel + 1, position]
    top = scores[0]
    for position in range(held):
        top = max(top, scores[position])
    for position in range(held):
        scores[position] -= top
    _exponentiate(scores, state)
    return _sum(scores)


@callee
def _average(state: LaneState, values: np.ndarray, held: int, out: np.ndarray) -> None:
    """The sum of the first `held` values (S, K), each times its score."""
    scores = state.scores
    whole = held // 4 * 4
    out[:] = _ZERO
    for position in range(0, whole, 4):
        a, b = scores[position], scores[position + 1]
        c, d = scores[position + 2], scores[position + 3]
        for channel in range(out.size):
            value = out[channel] + a * values[position, channel]
            value = value + b * values[position + 1, channel]
            value = value + c * values[position + 2, channel]
            out[channel] = value + d * values[position + 3, channel]
    for position in range(whole, held):
        for channel in range(out.size):
            out[channel] += scores[position] * values[position, channel]


@callee
def _attend_lane(state: LaneState, layer: int, head: int, lane: int) -> None:
    """Store key and value of a head, and put what it attends to where its query was."""
    qkv, slots = state.qkv[lane], state.keys.shape[4]
    head_width, width = state.keys.shape[3], qkv.size // 3
    begin = head * head_width
    query = qkv[begin : begin + head_width]
    key = qkv[width + begin : width + begin + head_width]
    for part in (query, key):
        _normalize(part, part)
        _turn(part, state.angle)
    keys, values = state.keys[layer, head, lane], state.values[layer, head, lane]
    slot, held = state.position[0] % slots, min(state.position[0] + 1, slots)
    _copy(key, keys[:, slot])
    _copy(qkv[2 * width + begin : 2 * width + begin + head_width], values[slot])
    total = _weigh(state, query, keys, held)
    _average(state, values, held, query)
    for channel in range(head_width):
        query[channel] /= total


@callee
def _attend(weights: Weights, state: LaneState, layer: int, x: np.ndarray) -> None:
    """What attention adds to `x`, in `normal` then."""
    _normalize_lanes(x, state.normal)
    _multiply(weights.project_qkv[layer], state.normal, state.qkv)
    for lane in range(x.shape[0]):
        for head in range(state.keys.shape[1]):
            _attend_lane(state, layer, head, lane)
    _multiply(weights.project_out[layer], state.qkv[:, : x.shape[1]], state.normal)


@callee
def _feed_forward(weights: Weights, state: LaneState, layer: int, x: np.ndarray) -> None:
    """What the feed-forward branch adds to `x`, in `normal` then."""
    hidden = state.hidden
    _normalize_lanes(x, state.normal)
    _multiply(weights.widen[layer], state.normal, hidden)
    for lane in range(hidden.shape[0]):
        for channel in range(hidden.shape[1]):
            positive = max(hidden[lane, channel], _ZERO)
            hidden[lane, channel] = positive * positive
    _multiply(weights.narrow[layer], hidden, state.normal)


@callee
def _advance(weights: Weights, state: LaneState) -> None:
    """To the next position, by one more turn of the angles."""
    angle, turn = state.angle, weights.turn
    for channel in range(angle.shape[1]):
        cosine, sine = angle[0, channel], angle[1, channel]
        angle[0, channel] = cosine * turn[0, channel] - sine * turn[1, channel]
        angle[1, channel] = sine * turn[0, channel] + cosine * turn[1, channel]
    state.position[0] += 1


@compiled_lean
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
        for lane in range(first.shape[0]):
            for channel in range(first.shape[1]):
                first[lane, channel] = (first[lane, channel] + second[lane, channel]) * _HALF
    _normalize_lanes(first, state.normal)
    _multiply(weights.head, state.normal, state.logits)
    _advance(weights, state)


@callee
def _cap(logits: np.ndarray, cap: np.float32, state: LaneState) -> None:
    """cap * tanh(logits / cap), as the head bounds its logits."""
    softened = state.softened
    for node in range(logits.size):
        softened[node] = -_TWO * abs(logits[node]) / cap
    _exponentiate(softened, state)
    for node in range(logits.size):
        bound = cap * ((_ONE - softened[node]) / (_ONE + softened[node]))
        logits[node] = bound if logits[node] >= _ZERO else -bound


@compiled_lean
def scaled_log_odds(state: LaneState, logit_cap: float, out: np.ndarray) -> None:
    """The logits (L, nodes), capped and rounded to integers as `fixed_point` has log-odds."""
    limit, cap = np.float32(STRETCH_LIMIT - 1), np.float32(logit_cap)
    for lane in range(out.shape[0]):
        logits = state.logits[lane]
        if cap > _ZERO:
            _cap(logits, cap, state)
        for node in range(logits.size):
            rounded = np.floor(logits[node] * np.float32(STRETCH_SCALE) + _HALF)
            # Weights may be such that a sum is no number; it says nothing then, on every machine.
            known = rounded if rounded == rounded else _ZERO
            out[lane, node] = np.int32(min(max(known, -limit), limit))
