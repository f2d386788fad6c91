"""One step of a network for the lanes of a block, the same to the last bit on every machine.

IEEE 754 defines the result of every single operation, but not the order of a sum. So every sum is
taken in one fixed order, and the compiler may neither fuse nor reorder operations. PyTorch promises
neither: its logits change with the processor's vector width. Speed comes from the layout instead.
Matrices are stored by columns. A product adds one column after the other, and the rows, which are
independent of each other, fill the vector registers.

Letters as in `model`: D width, F hidden width, N layers, H heads, K head width, S positions that
attention holds, O memory orders, W memory width; and L lanes. The result of a lane does not depend
on the number of lanes.
"""

from typing import NamedTuple

import numpy as np

from bit_transformer.compression.fixed_point import STRETCH_LIMIT, STRETCH_SCALE
from bit_transformer.native.functions import callee, compiled_lean

_LOG2_E = np.float32(1.4426950408889634)
_MIN_EXPONENT = np.float32(-126.0)
"""The exponent of the smallest normal float32."""
_MIN_RMS = np.float32(1e-6)
"""As in `model.norm`."""
_ZERO, _ONE, _HALF, _TWO = np.float32(0), np.float32(1), np.float32(0.5), np.float32(2)
_HASH_SHIFT = 40
"""As in `model.memory`."""


class Weights(NamedTuple):
    """The weights of a network in float32. Matrices are (columns, rows), that is (in, out)."""

    leaves: np.ndarray  # (2**P, D) embeddings of patch values
    root: np.ndarray  # (D,) embedding of the start position
    multipliers: np.ndarray  # (O, longest) multipliers of the memory's hashes
    rows: np.ndarray  # (O, slots, W) rows of the memory
    project_memory: np.ndarray  # (O W, D)
    project_qkv: np.ndarray  # (N, D, 3 D)
    project_out: np.ndarray  # (N, D, D)
    up_proj: np.ndarray  # (N, D, F)
    down_proj: np.ndarray  # (N, F, D)
    head: np.ndarray  # (D, nodes)
    leaf_head: np.ndarray  # (D, nodes) the head's leaves, (D, 0) without them
    rotation: np.ndarray  # (2, K / 2) cosine and sine of one position's rotation, in float64


class LaneState(NamedTuple):
    """The state of L lanes: what they have read, and the values of the present step."""

    recent: np.ndarray  # (L, longest) newest patches plus one, oldest first; 0 before the start
    # The last axis is the one that fills vector registers: positions in keys, channels in values.
    keys: np.ndarray  # (N, H, L, K, S), a ring buffer over S
    values: np.ndarray  # (N, H, L, S, K), a ring buffer over S
    position: np.ndarray  # (1,) number of positions read
    angle: np.ndarray  # (2, K / 2) cosine and sine of the present position, in float64
    first: np.ndarray  # (L, D) residual stream
    second: np.ndarray  # (L, D) second stream of a reversible stack
    branch: np.ndarray  # (L, D) normalised input of a branch, then its output
    qkv: np.ndarray  # (L, 3 D)
    memory: np.ndarray  # (L, O W) rows looked up in the memory, joined
    hidden: np.ndarray  # (L, F)
    scores: np.ndarray  # (S,) attention scores
    exponents: np.ndarray  # (max(S, nodes),) bit patterns of powers of two, as int32
    powers: np.ndarray  # the same memory as float32
    logits: np.ndarray  # (L, nodes) logits of the next patch
    cap_terms: np.ndarray  # (nodes,) exponentials that the logit cap and the leaves need
    masses: np.ndarray  # (L, nodes) logits of the leaves, then log-masses of subtrees


# Assigning a slice would make numba allocate memory, in case the two arrays overlap.
@callee
def _copy(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(x.size):
        out[i] = x[i]


# Eight columns at a time, because each pass over `out` loads and stores it. The sum of a row keeps
# the order of the columns, whatever the width of the vector registers.
@callee
def _multiply(matrix: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out (L, rows) = x (L, columns) times matrix (columns, rows), summed from the first column."""
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


# A compiler that may not reorder a sum cannot vectorize it. Eight interleaved sums it can, and
# their order is written down here.
@callee
def _sum(x: np.ndarray) -> np.float32:
    """Return the sum of a vector: eight sums of every eighth number, then the sum of these."""
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
    """Return the sum of the squares of a vector, in the order of `_sum`."""
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
    """Normalise a vector as `model.norm.rms_norm` does. `out` may be `x`."""
    mean = _sum_of_squares(x) / np.float32(x.size)
    scale = _ONE / max(np.sqrt(mean), _MIN_RMS)
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


# No standard fixes the last bits of exp(), so libraries differ. Here e**x = 2**n * 2**r with r in
# [-1/2, 1/2): 2**n is made from the bits of a float, and a polynomial gives 2**r.
@callee
def _exp(x: np.ndarray, state: LaneState) -> None:
    """Replace each x <= 0 by e**x, with a relative error below 3e-7."""
    exponents, powers = state.exponents, state.powers
    for i in range(x.size):
        power = max(x[i] * _LOG2_E, _MIN_EXPONENT)
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
def _memory_rows(weights: Weights, state: LaneState) -> None:
    """Look up the memory rows of the last patches of each lane, as `model.memory` does."""
    orders, slots, width = weights.rows.shape
    for lane in range(state.memory.shape[0]):
        recent, joined = state.recent[lane], state.memory[lane]
        for order in range(orders):
            key = np.int64(0)
            for place in range(recent.size):
                key += recent[place] * weights.multipliers[order, place]
            row = weights.rows[order, (key >> _HASH_SHIFT) & (slots - 1)]
            _copy(row, joined[order * width : (order + 1) * width])


@callee
def _embed(weights: Weights, state: LaneState, patches: np.ndarray, at_start: bool) -> None:
    """Put the trunk's input for the patches, or for the start position, into both streams."""
    recent, stream = state.recent, state.first
    newest = recent.shape[1] - 1
    for lane in range(patches.size):
        embedding = weights.root if at_start else weights.leaves[patches[lane]]
        _copy(embedding, stream[lane])
        if not at_start and newest >= 0:
            for place in range(newest):
                recent[lane, place] = recent[lane, place + 1]
            recent[lane, newest] = patches[lane] + 1
    _memory_rows(weights, state)
    _multiply(weights.project_memory, state.memory, state.branch)
    _add(stream, state.branch)
    _normalize_lanes(stream, stream)
    for lane in range(patches.size):
        _copy(stream[lane], state.second[lane])


@callee
def _rotate(x: np.ndarray, angle: np.ndarray) -> None:
    """Apply the rotary position embedding to the pairs of channels (i, i + K/2)."""
    half = x.size // 2
    for channel in range(half):
        cosine, sine = np.float32(angle[0, channel]), np.float32(angle[1, channel])
        left, right = x[channel], x[channel + half]
        x[channel] = left * cosine - right * sine
        x[channel + half] = right * cosine + left * sine


@callee
def _softmax(state: LaneState, query: np.ndarray, keys: np.ndarray, held: int) -> np.float32:
    """Put the exponentials of a head's softmax over the first `held` positions into the scores, and
    return their sum. The largest score is subtracted first, so that none overflows."""
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
    _exp(scores, state)
    return _sum(scores)


@callee
def _weighted_sum(state: LaneState, values: np.ndarray, held: int, out: np.ndarray) -> None:
    """Put the sum of the first `held` values (S, K), weighted by the scores, into `out`."""
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
    """Store the key and value of a head, and overwrite its query with the head's output."""
    qkv, slots = state.qkv[lane], state.keys.shape[4]
    head_width, width = state.keys.shape[3], qkv.size // 3
    begin = head * head_width
    query = qkv[begin : begin + head_width]
    key = qkv[width + begin : width + begin + head_width]
    for part in (query, key):
        _normalize(part, part)
        _rotate(part, state.angle)
    keys, values = state.keys[layer, head, lane], state.values[layer, head, lane]
    slot, held = state.position[0] % slots, min(state.position[0] + 1, slots)
    _copy(key, keys[:, slot])
    _copy(qkv[2 * width + begin : 2 * width + begin + head_width], values[slot])
    total = _softmax(state, query, keys, held)
    _weighted_sum(state, values, held, query)
    for channel in range(head_width):
        query[channel] /= total


@callee
def _attend(weights: Weights, state: LaneState, layer: int, x: np.ndarray) -> None:
    """Put what attention adds to the stream `x` into `state.branch`."""
    _normalize_lanes(x, state.branch)
    _multiply(weights.project_qkv[layer], state.branch, state.qkv)
    for lane in range(x.shape[0]):
        for head in range(state.keys.shape[1]):
            _attend_lane(state, layer, head, lane)
    _multiply(weights.project_out[layer], state.qkv[:, : x.shape[1]], state.branch)


@callee
def _feed_forward(weights: Weights, state: LaneState, layer: int, x: np.ndarray) -> None:
    """Put what the feed-forward branch adds to `x` into `state.branch`: RMSNorm, up-projection,
    squared ReLU, down-projection."""
    hidden = state.hidden
    _normalize_lanes(x, state.branch)
    _multiply(weights.up_proj[layer], state.branch, hidden)
    for lane in range(hidden.shape[0]):
        for channel in range(hidden.shape[1]):
            positive = max(hidden[lane, channel], _ZERO)
            hidden[lane, channel] = positive * positive
    _multiply(weights.down_proj[layer], hidden, state.branch)


# Cosines of a library are not the same everywhere, so the angles are advanced by a rotation. It is
# in float64, because its errors add up over the positions.
@callee
def _advance(weights: Weights, state: LaneState) -> None:
    """Advance the position by one, and rotate the angles accordingly."""
    angle, rotation = state.angle, weights.rotation
    for channel in range(angle.shape[1]):
        cosine, sine = angle[0, channel], angle[1, channel]
        angle[0, channel] = cosine * rotation[0, channel] - sine * rotation[1, channel]
        angle[1, channel] = sine * rotation[0, channel] + cosine * rotation[1, channel]
    state.position[0] += 1


@compiled_lean
def step(
    weights: Weights, state: LaneState, patches: np.ndarray, at_start: bool, reversible: bool
) -> None:
    """Read one patch of each lane (L,), or the start position, and put the logits of every node of
    the next patch into `state.logits`."""
    first = state.first
    second = state.second if reversible else first
    _embed(weights, state, patches, at_start)
    for layer in range(state.keys.shape[0]):
        _attend(weights, state, layer, second)
        _add(first, state.branch)
        _feed_forward(weights, state, layer, first)
        _add(second, state.branch)
    if reversible:
        for lane in range(first.shape[0]):
            for channel in range(first.shape[1]):
                first[lane, channel] = (first[lane, channel] + second[lane, channel]) * _HALF
    _normalize_lanes(first, state.branch)
    _multiply(weights.head, state.branch, state.logits)
    if weights.leaf_head.shape[1]:
        _multiply(weights.leaf_head, state.branch, state.masses)
        for lane in range(first.shape[0]):
            _add_leaves(state, state.masses[lane], state.logits[lane])
    _advance(weights, state)


# With e = e**-|odds| in (0, 1], log(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3.
@callee
def _add_leaves(state: LaneState, masses: np.ndarray, logits: np.ndarray) -> None:
    """Add to each node the log-odds of its two subtrees, as `model.bit_tree.subtree_log_odds`."""
    width = masses.size // 2
    while width >= 1:
        terms = state.cap_terms[:width]
        for i in range(width):
            odds = masses[2 * i + 1] - masses[2 * i]
            logits[width + i] += odds
            terms[i] = -abs(odds)
            masses[i] = max(masses[2 * i], masses[2 * i + 1])
        _exp(terms, state)
        for i in range(width):
            ratio = terms[i] / (_TWO + terms[i])
            square = ratio * ratio
            series = square * np.float32(1 / 11) + np.float32(1 / 9)
            series = series * square + np.float32(1 / 7)
            series = series * square + np.float32(1 / 5)
            series = series * square + np.float32(1 / 3)
            masses[i] += _TWO * ratio * (series * square + _ONE)
        width //= 2


@callee
def _cap(logits: np.ndarray, cap: np.float32, state: LaneState) -> None:
    """Replace the logits by cap * tanh(logits / cap), as the head does."""
    cap_terms = state.cap_terms
    for node in range(logits.size):
        cap_terms[node] = -_TWO * abs(logits[node]) / cap
    _exp(cap_terms, state)
    for node in range(logits.size):
        bound = cap * ((_ONE - cap_terms[node]) / (_ONE + cap_terms[node]))
        logits[node] = bound if logits[node] >= _ZERO else -bound


@compiled_lean
def scaled_log_odds(state: LaneState, logit_cap: float, out: np.ndarray) -> None:
    """Cap the logits (L, nodes) and round them to the scaled log-odds of `fixed_point`."""
    limit, cap = np.float32(STRETCH_LIMIT - 1), np.float32(logit_cap)
    for lane in range(out.shape[0]):
        logits = state.logits[lane]
        if cap > _ZERO:
            _cap(logits, cap, state)
        for node in range(logits.size):
            rounded = np.floor(logits[node] * np.float32(STRETCH_SCALE) + _HALF)
            # Weights may overflow to NaN, whose conversion to an integer differs by processor.
            known = rounded if rounded == rounded else _ZERO
            out[lane, node] = np.int32(min(max(known, -limit), limit))
