"""Predicts the next bit: one probability, mixed online from everything that is known about it.

This is context mixing as in PAQ (Mahoney, "Adaptive Weighing of Context Models for Lossless Data
Compression", 2005). Each context, each match model and, in hybrid mode, a neural network (as in
Knoll's cmix) gives log-odds of the bit. A mixer adds them up with weights, as PAQ does since PAQ7:
logistic regression, trained online by gradient descent on the code length. Mattern ("Mixing
Strategies in Data Compression", DCC 2012) gives its rationale and shows that the weights have one
optimum. Several sets of weights, each selected by another small context, mix all inputs, and a
second layer mixes the sets (paq8). Adaptive probability maps (APMs, called SSE in PPMd and zpaq)
correct the result. Everything learns from each bit after it was coded, never before, so that a
decoder can follow. Mahoney's "Data Compression Explained" introduces all of these parts.
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
    MAX_COUNT,
    MIN_PROBABILITY,
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
    CONTEXT_APMS,
    FIRST_CONTEXT,
    IDENTITY_APM,
    MATCH,
    MATCH_APMS,
    NETWORK,
    NETWORK_APMS,
    ORDER_0,
    PER_CONTEXT,
    ROWS,
    SETS,
    STEP,
    Tables,
)
from bit_transformer.native.functions import inlined

_WEIGHT_LIMIT = (1 << 18) - 1
"""The weight four, with 16 fractional bits. A sum of 96 products then fits in 32 bits."""
_FINAL_RATE, _EXTRA_RATE, _HALVED_AT = 16, 224, 512
"""The learning rate falls from 240 to 16: early bits should move weights that know nothing, later
bits should not disturb weights that fit. The extra rate is halved after 512 times 32 bits."""
_NEGLIGIBLE_ERROR = 400
"""A set that errs by less than 400 / 65536 does not learn from the bit, which saves time."""
_MAX_RUN, _MAX_WORD = 255, 15
_APM_LIMIT = 255
"""An APM forgets faster than other adaptive probabilities, as in lpaq."""
_CONFIDENCE_CLASSES = 24


@inlined
def begin_byte(tables: Tables, lanes: Lanes, lane: int, profile: int) -> None:
    """Prepare for the byte at the lane's position."""
    make_contexts(lanes, lane, tables.history, profile)
    lanes.node[lane], lanes.bit_index[lane] = 1, 0
    find_buckets(tables, lanes, lane)
    for index in range(tables.counts.size):
        lanes.runs[lane, index] = lanes.buckets[lane, index] + SLOTS


# Reading one word of every bucket first puts all cache misses under way at once; otherwise each
# bucket would be waited for alone. numba offers no prefetch instruction.
@inlined
def find_buckets(tables: Tables, lanes: Lanes, lane: int) -> None:
    """Look up each context's bucket for the half byte that begins."""
    node, buckets = lanes.node[lane], tables.buckets
    prefetched = np.int64(0)
    for index in range(tables.counts.size):
        context = lanes.contexts[lane, index]
        if node > 1:
            context = hashed(context, node)
        tables.hashes[index] = context
        prefetched += np.int64(buckets[home_of(buckets, context)])
    tables.prefetched[0] = prefetched
    for index in range(tables.counts.size):
        lanes.buckets[lane, index] = find_bucket(buckets, tables.hashes[index])


@inlined
def predict(tables: Tables, lanes: Lanes, lane: int, network: int) -> int:
    """Return the probability, of 65536, that the lane's next bit is a one. `network` is the
    log-odds that a network gives it, 0 without a network."""
    node, bit_index = lanes.node[lane], lanes.bit_index[lane]
    inputs = tables.inputs
    _context_inputs(tables, lanes.buckets[lane], node, bit_index)
    _run_inputs(tables, lanes.runs[lane], node, bit_index)
    length, expected = _match_inputs(tables, lanes, lane, node, bit_index)
    inputs[ORDER_0] = STRETCH[np.int64(tables.order_0[node]) >> 20]
    inputs[NETWORK] = network
    inputs[BIAS] = STRETCH_SCALE
    _select_rows(tables, lanes, lane, length, network)
    _select_apms(tables, lanes, lane, length * 2 + expected)
    return _refine(tables, _mix(tables, node))


# A context gives two opinions of its slot: the probability that its counts have meant for all
# contexts of this kind (indirect), and the probability of this one slot (direct). The first is
# known after one bit; the second is finer after many. A new slot says nothing: log-odds of 0.
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


# Most contexts are followed by one byte only. The longer its run, the likelier it comes again, and
# as soon as one known bit differs the run says nothing (paq8's RunContextMap).
@inlined
def _run_inputs(tables: Tables, runs: np.ndarray, node: int, bit_index: int) -> None:
    """Predict the byte that last followed each context, where it fits the known bits."""
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
    """Return the next bit of an expected byte, or -1 if the known bits are not its own."""
    if (byte | 256) >> (8 - bit_index) != node:
        return -1
    return (byte >> (7 - bit_index)) & 1


@inlined
def _match_inputs(
    tables: Tables, lanes: Lanes, lane: int, node: int, bit_index: int
) -> tuple[int, int]:
    """Return the length class of the first match that still holds (0 for none), and its bit."""
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


# Which inputs to trust depends on the situation, so each set selects its weights by another aspect
# of it: the known bits, the match, the last byte, how many orders are known, the byte before, and
# the kinds of bytes around the word.
@inlined
def _select_rows(tables: Tables, lanes: Lanes, lane: int, length: int, network: int) -> None:
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
    length_of_word = min(lanes.word_length[lane], _MAX_WORD)
    kinds_before_word = (lanes.kinds[lane] >> np.uint64(2 * length_of_word)) & np.uint64(15)
    rows[5] = (length_of_word * 16 + np.int64(kinds_before_word)) * 8 + bit_index
    if rows.size > SETS:
        _select_network_rows(tables, lanes, lane, length, network)


@inlined
def _select_network_rows(
    tables: Tables, lanes: Lanes, lane: int, length: int, network: int
) -> None:
    """Select the rows of six further sets, which cost little beside the time of a network."""
    rows, bit_index = tables.rows, lanes.bit_index[lane]
    confidence = (network + STRETCH_LIMIT) * _CONFIDENCE_CLASSES // (2 * STRETCH_LIMIT)
    mask = np.uint64(ROWS - 1)
    rows[SETS] = confidence * 8 + bit_index
    rows[SETS + 1] = confidence * LENGTH_BUCKETS + length
    rows[SETS + 2] = np.int64(hashed(np.uint64(rows[2]), rows[4]) & mask)
    rows[SETS + 3] = np.int64(lanes.words[lane, 0] >> np.uint64(13) & mask)
    before = hashed(lanes.words[lane, 1], lanes.word_length[lane])
    rows[SETS + 4] = np.int64(before & mask)
    at = lanes.match_at[lane, 0]
    follows = np.int64(tables.history[at]) if lanes.match_length[lane, 0] > 0 else 0
    rows[SETS + 5] = follows * 8 + bit_index


# The products stay in 32 bits, because the compiler then makes vector instructions of the sum.
# Integers add up to the same in any order, so vectors do no harm here.
@inlined
def _mix(tables: Tables, node: int) -> int:
    """Return the log-odds that the second layer makes of all sets."""
    inputs, mixed, probabilities = tables.inputs, tables.mixed, tables.probabilities
    total = 0
    for index in range(tables.rows.size):
        weights = tables.weights[index, tables.rows[index]]
        dot = np.int32(0)
        for place in range(inputs.size):
            weight = np.int32(weights[place] >> 6)
            dot = np.int32(dot + np.int32(weight * inputs[place]))
        mixed[index] = clipped(np.int64(dot) >> 10)
        probabilities[index] = SQUASH[mixed[index] + STRETCH_LIMIT]
        total += np.int64(tables.final_weights[node, index]) * np.int64(mixed[index])
    log_odds = clipped(total >> 16)
    probabilities[tables.rows.size] = SQUASH[log_odds + STRETCH_LIMIT]
    return log_odds


# The 256 APMs of a byte, one for each node, lie together, so most are cached after the first bit.
@inlined
def _select_apms(tables: Tables, lanes: Lanes, lane: int, match: int) -> None:
    """Select three APMs: by the network's confidence, else by the match, else by the known bits; by
    the last byte; and by the last two bytes."""
    node, position = lanes.node[lane], lanes.position[lane]
    last, before = byte_at(tables.history, position - 1), byte_at(tables.history, position - 2)
    by_two = hashed(np.uint64(last), before) & np.uint64(CONTEXT_APMS // 256 - 1)
    cells, apms = tables.apm_cells, tables.apms
    if tables.rows.size > SETS:
        confidence = (tables.inputs[NETWORK] + STRETCH_LIMIT) * (NETWORK_APMS // 256)
        cells[0] = MATCH_APMS + 2 * CONTEXT_APMS + confidence // (2 * STRETCH_LIMIT) * 256 + node
    else:
        cells[0] = 256 + match if match > 1 else node
    cells[1] = MATCH_APMS + last * 256 + node
    cells[2] = MATCH_APMS + CONTEXT_APMS + np.int64(by_two) * 256 + node
    tables.prefetched[0] = np.int64(apms[cells[1], 0]) + np.int64(apms[cells[2], 0])


# A mixer may be too confident in one context and not confident enough in another. An APM learns how
# often log-odds like these were right in its context; it interpolates between the nearest knots.
@inlined
def _refine(tables: Tables, log_odds: int) -> int:
    """Return the mixer's probability averaged with three APMs', at weights 2, 1, 2 and 3."""
    knot = (log_odds + STRETCH_LIMIT) // STEP
    above = (log_odds + STRETCH_LIMIT) - knot * STEP
    cells, apms = tables.apm_cells, tables.apms
    cells[3] = knot + (1 if 2 * above > STEP else 0)
    probability = 2 * np.int64(tables.probabilities[tables.rows.size])
    for index in range(3):
        low = np.int64(_apm_entry(apms, cells[index], knot)) >> 16
        high = np.int64(_apm_entry(apms, cells[index], knot + 1)) >> 16
        value = (low * (STEP - above) + high * above) // STEP
        probability += value * (index + 1)
    return min(max(probability >> 3, MIN_PROBABILITY), ONE - MIN_PROBABILITY)


@inlined
def _apm_entry(apms: np.ndarray, cell: int, knot: int) -> np.uint32:
    return np.uint32(IDENTITY_APM[knot] + apms[cell, knot])


@inlined
def update(tables: Tables, lanes: Lanes, lane: int, bit: int) -> None:
    """Learn from the bit that was predicted last, and move on to the next one."""
    node = lanes.node[lane]
    _learn_weights(tables, node, bit)
    _learn_maps(tables, lanes.buckets[lane], node, lanes.bit_index[lane], bit)
    tables.order_0[node] = adapted(tables.order_0[node], bit, MAX_COUNT)
    tables.clock[0] += 1
    lanes.node[lane] = (node << 1) | bit
    lanes.bit_index[lane] += 1
    if lanes.bit_index[lane] == 4:
        find_buckets(tables, lanes, lane)


# The gradient of the code length by a weight is (p - bit) * input, so the weight moves by its rate
# times the error times the input. Every set learns from its own error, not from the final one, so
# that each becomes a good predictor by itself (paq8). 1 << 14 and 1 << 17 round to nearest.
@inlined
def _learn_weights(tables: Tables, node: int, bit: int) -> None:
    inputs, target, sets = tables.inputs, bit << 16, tables.rows.size
    rate = _FINAL_RATE + _EXTRA_RATE * _HALVED_AT // (_HALVED_AT + (tables.clock[0] >> 5))
    for index in range(sets):
        weights = tables.weights[index, tables.rows[index]]
        error = target - np.int64(tables.probabilities[index])
        if -_NEGLIGIBLE_ERROR < error < _NEGLIGIBLE_ERROR:
            continue
        scaled = np.int32((error * rate) >> 7)
        for place in range(inputs.size):
            step = np.int32(np.int32(inputs[place] * scaled) + np.int32(1 << 14))
            weight = np.int32(weights[place] + np.int32(step >> 15))
            weights[place] = min(max(weight, np.int32(-_WEIGHT_LIMIT)), np.int32(_WEIGHT_LIMIT))
    final_error = target - np.int64(tables.probabilities[sets])
    for index in range(sets):
        final_step = (np.int64(tables.mixed[index]) * final_error + (1 << 17)) >> 18
        tables.final_weights[node, index] += final_step
    for index in range(3):
        cell, knot = tables.apm_cells[index], tables.apm_cells[3]
        entry = _apm_entry(tables.apms, cell, knot)
        tables.apms[cell, knot] = np.uint32(adapted(entry, bit, _APM_LIMIT) - IDENTITY_APM[knot])


@inlined
def _learn_maps(tables: Tables, buckets: np.ndarray, node: int, bit_index: int, bit: int) -> None:
    within = slot_within(node, bit_index)
    for index in range(tables.counts.size):
        slot, counts = buckets[index] + within, tables.counts[index]
        if counts:
            entry = tables.count_maps[index, counts]
            tables.count_maps[index, counts] = adapted(entry, bit, MAX_COUNT)
        probability = np.int64(tables.buckets[slot + SLOTS])
        tables.buckets[slot + SLOTS] = probability_after_bit(probability, counts, bit)
        tables.buckets[slot] = after_bit(counts, bit)
        cell = tables.run_cells[index]
        if cell >= 0:
            tables.run_maps[index, cell] = adapted(tables.run_maps[index, cell], bit, MAX_COUNT)
    for model in range(MATCHES):
        cell = tables.match_cells[model]
        if cell >= 0:
            tables.match_maps[model, cell] = adapted(tables.match_maps[model, cell], bit, MAX_COUNT)


@inlined
def end_byte(tables: Tables, lanes: Lanes, lane: int) -> None:
    """Store the byte whose eight bits are known, and update runs, words and matches with it."""
    byte, position = lanes.node[lane] & 255, lanes.position[lane]
    runs = lanes.runs[lane]
    for index in range(tables.counts.size):
        run = np.int64(tables.buckets[runs[index]])
        count = min((run >> 8) + 1, _MAX_RUN) if run & 255 == byte else 1
        tables.buckets[runs[index]] = (count << 8) | byte
    tables.history[position] = byte
    lanes.position[lane], lanes.bit_index[lane] = position + 1, 0
    note_byte(lanes, lane, tables.history)
    find_matches(lanes, lane, tables.history, tables.heads)
