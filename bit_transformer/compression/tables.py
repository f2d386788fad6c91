"""The state of the mixer, as arrays that compiled code can hold."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

from bit_transformer.compression.bit_history import COUNTS, aligned, new_buckets
from bit_transformer.compression.fixed_point import ONE, SQUASH, STRETCH_LIMIT, UNKNOWN
from bit_transformer.compression.matches import LENGTH_BUCKETS, MATCHES

ORDER_0, MATCH, NETWORK, BIAS = 0, 1, 1 + MATCHES, 2 + MATCHES
"""Places of the mixer's inputs; those of the contexts follow."""
FIRST_CONTEXT = BIAS + 1
PER_CONTEXT = 3
"""Inputs of a context: from its counts, from its probability, and from its run."""
VECTOR = 8
"""The number of inputs is padded to a multiple of this, so that sums fill vector registers."""
SETS, NETWORK_SETS = 6, 6
"""Sets of weights without a network, and further ones with a network."""
KNOTS = 16
"""Knots of an adaptive probability map (APM); 16 of 4 bytes are one cache line."""
STEP = -(-2 * STRETCH_LIMIT // (KNOTS - 1))
"""Log-odds between two knots."""
MATCH_APMS, CONTEXT_APMS, NETWORK_APMS = 1024, 1 << 16, 1 << 14
"""Number of APMs of each kind."""
ROWS = 2048
"""Rows of weights in a set, of which the set's context selects one."""
_FIRST_WEIGHT, _FIRST_NETWORK_WEIGHT = 2700, 20000
_RUN_MAP = 512
_MAX_CLOCK_AFTER_DICTIONARY = 60_000
"""Bits after which the mixer's weights still learn four times as fast as in the end."""
_BUCKET_BYTES = 64
_MIN_HEAD_BITS, _HEAD_BITS_BELOW_BUCKETS = 12, 4
_FIRST_APM_COUNT = 6
"""An APM begins as if it had seen six bits, as in lpaq: it starts as the identity, and early bits
must not overturn that."""


class Tables(NamedTuple):
    """Everything that the mixer has learned from all lanes, and the values of the present bit."""

    history: np.ndarray  # every byte coded so far, at its position; zeros after them
    buckets: np.ndarray  # the hash table of contexts; see `bit_history`
    count_maps: np.ndarray  # (contexts, 1024) adaptive probability by a slot's counts
    run_maps: np.ndarray  # (contexts, 512) the same by a run's length, bit index and expected bit
    order_0: np.ndarray  # (256,) the same by node, without any context
    heads: np.ndarray  # (2, 2**k) position after the last passage with each hash; see `matches`
    match_maps: np.ndarray  # (2, 64) adaptive probability by a match's length and expected bit
    weights: np.ndarray  # (sets, 2048, inputs), 16 fractional bits
    final_weights: np.ndarray  # (256, sets) weights of the second layer by node, 16 fractional bits
    apms: np.ndarray  # (APMs, 16) adaptive probability by knot, minus `IDENTITY_APM`
    clock: np.ndarray  # (1,) number of bits learned from
    hashes: np.ndarray  # (contexts,) the hashes whose buckets are looked up
    prefetched: np.ndarray  # (1,) keeps the prefetch from being optimised away
    inputs: np.ndarray  # (inputs,) log-odds that the mixer adds up for the present bit
    counts: np.ndarray  # (contexts,) the counts in each context's slot
    run_cells: np.ndarray  # (contexts,) the entries of `run_maps` that were used, -1 for none
    match_cells: np.ndarray  # (2,) the entries of `match_maps` that were used, -1 for none
    rows: np.ndarray  # (sets,) the selected row of each set
    mixed: np.ndarray  # (sets,) log-odds that each set gives
    probabilities: np.ndarray  # (sets + 1,) probability that each set gives, and the second layer's
    apm_cells: np.ndarray  # (4,) the three selected APMs, and the knot that will be updated in each


def new_tables(history_bytes: int, bucket_bits: int, contexts: int, *, network: bool) -> Tables:
    """Return tables that have learned nothing; `network` makes room for a network's predictions."""
    sets, inputs, heads, apms = _sizes(bucket_bits, contexts, network)
    weights = np.full((sets, ROWS, inputs), _FIRST_WEIGHT, np.int32)
    weights[:, :, NETWORK] = _FIRST_NETWORK_WEIGHT
    return Tables(
        history=np.zeros(history_bytes + 1, np.uint8),
        buckets=new_buckets(bucket_bits),
        count_maps=np.full((contexts, COUNTS), UNKNOWN, np.uint32),
        run_maps=np.full((contexts, _RUN_MAP), UNKNOWN, np.uint32),
        order_0=np.full(256, UNKNOWN, np.uint32),
        heads=np.zeros((MATCHES, heads), np.int32),
        match_maps=np.full((MATCHES, 2 * LENGTH_BUCKETS), UNKNOWN, np.uint32),
        weights=weights,
        final_weights=np.full((256, sets), ONE // sets, np.int32),
        apms=aligned(apms * KNOTS, np.uint32).reshape(apms, KNOTS),
        clock=np.zeros(1, np.int64),
        hashes=np.zeros(contexts, np.uint64),
        prefetched=np.zeros(1, np.int64),
        inputs=np.zeros(inputs, np.int32),
        counts=np.zeros(contexts, np.int64),
        run_cells=np.zeros(contexts, np.int64),
        match_cells=np.zeros(MATCHES, np.int64),
        rows=np.zeros(sets, np.int64),
        mixed=np.zeros(sets, np.int32),
        probabilities=np.zeros(sets + 1, np.int32),
        apm_cells=np.zeros(4, np.int64),
    )


def learn_faster_again(tables: Tables) -> None:
    """Set the clock back after a dictionary. The weights of the network's input begin to learn only
    then."""
    tables.clock[0] = min(int(tables.clock[0]), _MAX_CLOCK_AFTER_DICTIONARY)


def table_bytes(history_bytes: int, bucket_bits: int, contexts: int, *, network: bool) -> int:
    """Return how much memory `new_tables` takes for the same arguments."""
    sets, inputs, heads, apms = _sizes(bucket_bits, contexts, network)
    words = sets * ROWS * inputs + MATCHES * heads + apms * KNOTS + contexts * (COUNTS + _RUN_MAP)
    return history_bytes + (_BUCKET_BYTES << bucket_bits) + 4 * words


def _sizes(bucket_bits: int, contexts: int, network: bool) -> tuple[int, int, int, int]:
    """Return the numbers of sets of weights, inputs, heads of a match model, and APMs."""
    sets = SETS + (NETWORK_SETS if network else 0)
    inputs = -(-(FIRST_CONTEXT + contexts * PER_CONTEXT) // VECTOR) * VECTOR
    heads = 1 << max(_MIN_HEAD_BITS, bucket_bits - _HEAD_BITS_BELOW_BUCKETS)
    apms = MATCH_APMS + 2 * CONTEXT_APMS + (NETWORK_APMS if network else 0)
    return sets, inputs, heads, apms


def _identity_apm() -> UInt32[np.ndarray, "knots"]:
    knots = np.minimum(STEP * np.arange(KNOTS), 2 * STRETCH_LIMIT - 1)
    return (SQUASH[knots].astype(np.uint32) << 16) | np.uint32(_FIRST_APM_COUNT)


IDENTITY_APM = _identity_apm()
"""An APM that returns its input. APMs are stored as differences from it, so that new ones are all
zeros, and the operating system gives them memory only once they are used."""
