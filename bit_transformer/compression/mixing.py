"""One probability for the next bit, mixed online from everything that is known of it.

Context mixing as in PAQ (Mahoney, 2005), whose terms these are. Each context gives what its bit
history has meant so far; match models and, in the hybrid, a network give theirs. Several sets of
weights, each chosen by another small context, mix these log-odds; a second layer mixes the sets;
adaptive probability maps refine the result. Weights and maps learn from each bit after it is coded,
and never before.
"""

import numpy as np

from bit_transformer.compression.bit_history import (
    SLOTS,
    after_bit,
    find_bucket,
    home_of,
    probability_after_bit,
    slot_within,
)
from bit_transformer.compression.contexts import ORDERS, make_contexts, note_byte
from bit_transformer.compression.fixed_point import (
    LEAST,
    MOST_ADAPTED,
    ONE,
    SQUASH,
    STRETCH,
    STRETCH_LIMIT,
    STRETCH_SCALE,
    adapted,
    clipped,
    hashed,
)
from bit_transformer.compression.lanes import Lanes, byte_at
from bit_transformer.compression.matches import LENGTH_BUCKETS, MATCHES, find_matches, length_bucket
from bit_transformer.compression.tables import (
    BIAS,
    BY_CONTEXT,
    BY_MATCH,
    BY_NETWORK,
    FIRST_CONTEXT,
    MATCH,
    NETWORK,
    ORDER_0,
    PER_CONTEXT,
    ROWS,
    SETS,
    STEP,
    UNREFINED,
    Tables,
)
from bit_transformer.native.functions import inlined

_WEIGHT_LIMIT = (1 << 18) - 1
"""Four, in 16 fractional bits: a product of 96 weights and inputs fits 32 bits."""
_LATE_RATE, _EARLY_RATE, _RATE_HALVES = 16, 224, 512
_NEAR = 400
"""Of 65536: a set that has missed a bit by less learns nothing from it, which saves time."""
_LONGEST_RUN, _LONGEST_WORD = 255, 15
_REFINED_TO = 255
_NETWORK_CLASSES = 24


@inlined
def begin_byte(tables: Tables, lanes: Lanes, lane: int, profile: int) -> None:
    """Prepare for the byte at the lane's position."""
    make_contexts(lanes, lane, tables.history, profile)
    lanes.node[lane], lanes.bit_index[lane] = 1, 0
    _find_buckets(tables, lanes, lane)
    for index in range(tables.counts.size):
        lanes.runs[lane, index] = lanes.buckets[lane, index] + SLOTS


@inlined
def _find_buckets(tables: Tables, lanes: Lanes, lane: int) -> None:
    """Of the half byte that begins."""
    node, buckets = lanes.node[lane], tables.buckets
    # Touching all of them first has all their cache misses under way at once.
    touched = np.int64(0)
    for index in range(tables.counts.size):
        context = lanes.contexts[lane, index]
        if node > 1:
            context = hashed(context, node)
        tables.hashes[index] = context
        touched += np.int64(buckets[home_of(buckets, context)])
    tables.touched[0] = touched
    for index in range(tables.counts.size):
        lanes.buckets[lane, index] = find_bucket(buckets, tables.hashes[index])


@inlined
def predict(tables: Tables, lanes: Lanes, lane: int, network: int) -> int:
    """The probability of a one for the lane's next bit, of 65536; `network` is the log-odds that a
    network gives it, 0 without one."""
    node, bit_index = lanes.node[lane], lanes.bit_index[lane]
    inputs = tables.inputs
    _context_inputs(tables, lanes.buckets[lane], node, bit_index)
    _run_inputs(tables, lanes.runs[lane], node, bit_index)
    length, expected = _match_inputs(tables, lanes, lane, node, bit_index)
    inputs[ORDER_0] = STRETCH[np.int64(tables.order_0[node]) >> 20]
    inputs[NETWORK] = network
    inputs[BIAS] = STRETCH_SCALE
    _choose_rows(tables, lanes, lane, length, network)
    _choose_refinement(tables, lanes, lane, length * 2 + expected)
    return _refine(tables, _mix(tables, node))


@inlined
def _context_inputs(tables: Tables, buckets: np.ndarray, node: int, bit_index: int) -> None:
    inputs = tables.inputs
    within = slot_within(node, bit_index)
    for index in range(tables.counts.size):
        slot = buckets[index] + within
        counts = np.int64(tables.buckets[slot])
        tables.counts[index] = counts
        first = FIRST_CONTEXT + index * PER_CONTEXT
        if counts == 0:
            inputs[first] = inputs[first + 1] = 0
            continue
        by_counts = np.int64(tables.count_maps[index, counts]) >> 20
        probability = np.int64(tables.buckets[slot + SLOTS]) >> 4
        inputs[first] = STRETCH[by_counts]
        inputs[first + 1] = (STRETCH[probability] * 3) >> 2


@inlined
def _run_inputs(tables: Tables, runs: np.ndarray, node: int, bit_index: int) -> None:
    """What followed a context the last times without exception, where it fits the bits known."""
    for index in range(tables.counts.size):
        run = np.int64(tables.buckets[runs[index]])
        count, byte = run >> 8, run & 255
        cell, value = -1, 0
        bit = _expected_bit(byte, node, bit_index)
        if count > 0 and bit >= 0:
            cell = (min(count, 31) * 8 + bit_index) * 2 + bit
            value = STRETCH[np.int64(tables.run_maps[index, cell]) >> 20]
        tables.run_cells[index] = cell
        tables.inputs[FIRST_CONTEXT + index * PER_CONTEXT + 2] = value


@inlined
def _expected_bit(byte: int, node: int, bit_index: int) -> int:
    """The next bit of a byte that is expected, -1 when the bits known are not its."""
    if (byte | 256) >> (8 - bit_index) != node:
        return -1
    return (byte >> (7 - bit_index)) & 1


@inlined
def _match_inputs(
    tables: Tables, lanes: Lanes, lane: int, node: int, bit_index: int
) -> tuple[int, int]:
    """Gives the class of the first match that still holds, 0 for none, and its bit."""
    best = expected = 0
    for model in range(MATCHES):
        length = lanes.match_length[lane, model]
        cell, value = -1, 0
        if length > 0:
            byte = np.int64(tables.history[lanes.match_at[lane, model]])
            bit = _expected_bit(byte, node, bit_index)
            if bit >= 0:
                cell = length_bucket(length) * 2 + bit
                value = STRETCH[np.int64(tables.match_maps[model, cell]) >> 20]
                if best == 0:
                    best, expected = length_bucket(length), bit
            else:
                lanes.match_length[lane, model] = 0
        tables.match_cells[model] = cell
        tables.inputs[MATCH + model] = value
    return best, expected


@inlined
def _choose_rows(tables: Tables, lanes: Lanes, lane: int, length: int, network: int) -> None:
    rows, counts, position = tables.rows, tables.counts, lanes.position[lane]
    node, bit_index = lanes.node[lane], lanes.bit_index[lane]
    known = 0
    for order in range(1, ORDERS):
        known += counts[order] != 0
    rows[0] = node
    rows[1] = length * 8 + bit_index
    rows[2] = byte_at(tables.history, position - 1)
    rows[3] = known * 256 + node
    rows[4] = byte_at(tables.history, position - 2)
    length_of_word = min(lanes.word_length[lane], _LONGEST_WORD)
    kinds_before_word = (lanes.kinds[lane] >> np.uint64(2 * length_of_word)) & np.uint64(15)
    rows[5] = (length_of_word * 16 + np.int64(kinds_before_word)) * 8 + bit_index
    if rows.size > SETS:
        _choose_rows_of_network(tables, lanes, lane, length, network)


@inlined
def _choose_rows_of_network(
    tables: Tables, lanes: Lanes, lane: int, length: int, network: int
) -> None:
    """Beside a network, which costs far more than they do, more sets of weights pay."""
    rows, bit_index = tables.rows, lanes.bit_index[lane]
    sureness = (network + STRETCH_LIMIT) * _NETWORK_CLASSES // (2 * STRETCH_LIMIT)
    mask = np.uint64(ROWS - 1)
    rows[SETS] = sureness * 8 + bit_index
    rows[SETS + 1] = sureness * LENGTH_BUCKETS + length
    rows[SETS + 2] = np.int64(hashed(np.uint64(rows[2]), rows[4]) & mask)
    rows[SETS + 3] = np.int64(lanes.words[lane, 0] >> np.uint64(13) & mask)
    before = hashed(lanes.words[lane, 1], lanes.word_length[lane])
    rows[SETS + 4] = np.int64(before & mask)
    at = lanes.match_at[lane, 0]
    follows = np.int64(tables.history[at]) if lanes.match_length[lane, 0] > 0 else 0
    rows[SETS + 5] = follows * 8 + bit_index


@inlined
def _mix(tables: Tables, node: int) -> int:
    """Log-odds by all sets; in 32 bits, so that the sums are vector instructions."""
    inputs, mixed, given = tables.inputs, tables.mixed, tables.given
    total = 0
    for index in range(tables.rows.size):
        weights = tables.weights[index, tables.rows[index]]
        dot = np.int32(0)
        for place in range(inputs.size):
            weight = np.int32(weights[place] >> 6)
            dot = np.int32(dot + np.int32(weight * inputs[place]))
        mixed[index] = clipped(np.int64(dot) >> 10)
        given[index] = SQUASH[mixed[index] + STRETCH_LIMIT]
        total += np.int64(tables.final_weights[node, index]) * np.int64(mixed[index])
    log_odds = clipped(total >> 16)
    given[tables.rows.size] = SQUASH[log_odds + STRETCH_LIMIT]
    return log_odds


@inlined
def _choose_refinement(tables: Tables, lanes: Lanes, lane: int, match: int) -> None:
    """The maps to refine by: of how sure the network is, or of the match, or of the bits known; of
    the byte before; of the two before. The maps of a byte lie together, so most are cached."""
    node, position = lanes.node[lane], lanes.position[lane]
    last, before = byte_at(tables.history, position - 1), byte_at(tables.history, position - 2)
    by_two = hashed(np.uint64(last), before) & np.uint64(BY_CONTEXT // 256 - 1)
    cells, refined = tables.refined_cells, tables.refined
    if tables.rows.size > SETS:
        sureness = (tables.inputs[NETWORK] + STRETCH_LIMIT) * (BY_NETWORK // 256)
        cells[0] = BY_MATCH + 2 * BY_CONTEXT + sureness // (2 * STRETCH_LIMIT) * 256 + node
    else:
        cells[0] = 256 + match if match > 1 else node
    cells[1] = BY_MATCH + last * 256 + node
    cells[2] = BY_MATCH + BY_CONTEXT + np.int64(by_two) * 256 + node
    tables.touched[0] = np.int64(refined[cells[1], 0]) + np.int64(refined[cells[2], 0])


@inlined
def _refine(tables: Tables, log_odds: int) -> int:
    """The probability, averaged with what log-odds like these have meant in three contexts."""
    knot = (log_odds + STRETCH_LIMIT) // STEP
    above = (log_odds + STRETCH_LIMIT) - knot * STEP
    cells, refined = tables.refined_cells, tables.refined
    cells[3] = knot + (1 if 2 * above > STEP else 0)
    probability = 2 * np.int64(tables.given[tables.rows.size])
    for index in range(3):
        low = np.int64(_refined(refined, cells[index], knot)) >> 16
        high = np.int64(_refined(refined, cells[index], knot + 1)) >> 16
        value = (low * (STEP - above) + high * above) // STEP
        probability += value * (index + 1)
    return min(max(probability >> 3, LEAST), ONE - LEAST)


@inlined
def _refined(refined: np.ndarray, cell: int, knot: int) -> np.uint32:
    return np.uint32(UNREFINED[knot] + refined[cell, knot])


@inlined
def update(tables: Tables, lanes: Lanes, lane: int, bit: int) -> None:
    """Learn from the bit that was predicted last, and go on behind it."""
    node = lanes.node[lane]
    _learn_weights(tables, node, bit)
    _learn_maps(tables, lanes.buckets[lane], node, lanes.bit_index[lane], bit)
    tables.order_0[node] = adapted(tables.order_0[node], bit, MOST_ADAPTED)
    tables.clock[0] += 1
    lanes.node[lane] = (node << 1) | bit
    lanes.bit_index[lane] += 1
    if lanes.bit_index[lane] == 4:
        _find_buckets(tables, lanes, lane)


@inlined
def _learn_weights(tables: Tables, node: int, bit: int) -> None:
    inputs, target, sets = tables.inputs, bit << 16, tables.rows.size
    rate = _LATE_RATE + _EARLY_RATE * _RATE_HALVES // (_RATE_HALVES + (tables.clock[0] >> 5))
    for index in range(sets):
        weights = tables.weights[index, tables.rows[index]]
        miss = target - np.int64(tables.given[index])
        if -_NEAR < miss < _NEAR:
            continue
        error = np.int32((miss * rate) >> 7)
        for place in range(inputs.size):
            step = np.int32(np.int32(inputs[place] * error) + np.int32(1 << 14))
            weight = np.int32(weights[place] + np.int32(step >> 15))
            weights[place] = min(max(weight, np.int32(-_WEIGHT_LIMIT)), np.int32(_WEIGHT_LIMIT))
    error_of_all = target - np.int64(tables.given[sets])
    for index in range(sets):
        step_of_set = (np.int64(tables.mixed[index]) * error_of_all + (1 << 17)) >> 18
        tables.final_weights[node, index] += step_of_set
    for index in range(3):
        cell, knot = tables.refined_cells[index], tables.refined_cells[3]
        entry = _refined(tables.refined, cell, knot)
        tables.refined[cell, knot] = np.uint32(adapted(entry, bit, _REFINED_TO) - UNREFINED[knot])


@inlined
def _learn_maps(tables: Tables, buckets: np.ndarray, node: int, bit_index: int, bit: int) -> None:
    within = slot_within(node, bit_index)
    for index in range(tables.counts.size):
        slot, counts = buckets[index] + within, tables.counts[index]
        if counts:
            entry = tables.count_maps[index, counts]
            tables.count_maps[index, counts] = adapted(entry, bit, MOST_ADAPTED)
        probability = np.int64(tables.buckets[slot + SLOTS])
        tables.buckets[slot + SLOTS] = probability_after_bit(probability, counts, bit)
        tables.buckets[slot] = after_bit(counts, bit)
        cell = tables.run_cells[index]
        if cell >= 0:
            tables.run_maps[index, cell] = adapted(tables.run_maps[index, cell], bit, MOST_ADAPTED)
    for model in range(MATCHES):
        cell = tables.match_cells[model]
        if cell >= 0:
            tables.match_maps[model, cell] = adapted(
                tables.match_maps[model, cell], bit, MOST_ADAPTED
            )


@inlined
def end_byte(tables: Tables, lanes: Lanes, lane: int) -> None:
    """Take in the byte whose eight bits are known."""
    byte, position = lanes.node[lane] & 255, lanes.position[lane]
    runs = lanes.runs[lane]
    for index in range(tables.counts.size):
        run = np.int64(tables.buckets[runs[index]])
        count = min((run >> 8) + 1, _LONGEST_RUN) if run & 255 == byte else 1
        tables.buckets[runs[index]] = (count << 8) | byte
    tables.history[position] = byte
    lanes.position[lane], lanes.bit_index[lane] = position + 1, 0
    note_byte(lanes, lane, tables.history)
    find_matches(lanes, lane, tables.history, tables.heads)
