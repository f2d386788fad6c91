"""What mixing has learnt, as arrays that compiled code can hold."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

from bit_transformer.compression.bit_history import COUNTS, aligned, new_buckets
from bit_transformer.compression.fixed_point import ONE, SQUASH, STRETCH_LIMIT, UNKNOWN
from bit_transformer.compression.matches import LENGTH_BUCKETS, MATCHES

ORDER_0, MATCH, NETWORK, BIAS = 0, 1, 1 + MATCHES, 2 + MATCHES
"""Inputs of the mixer; those of the contexts follow."""
FIRST_CONTEXT = BIAS + 1
PER_CONTEXT = 3
"""Inputs of a context: by its counts, by its probability, by its run."""
VECTOR = 8
"""The inputs are padded to whole vector registers."""
SETS, NETWORK_SETS = 6, 6
KNOTS = 16
"""Of an adaptive probability map: one cache line."""
STEP = -(-2 * STRETCH_LIMIT // (KNOTS - 1))
BY_MATCH, BY_CONTEXT, BY_NETWORK = 1024, 1 << 16, 1 << 14
"""Adaptive probability maps of each kind."""
ROWS = 2048
"""Of weights in a set."""
_FIRST_WEIGHT, _FIRST_NETWORK_WEIGHT = 2700, 20000
_RUN_MAP = 512
_BUCKET_BYTES = 64
_LEAST_HEAD_BITS, _HEAD_BITS_BELOW_BUCKETS = 12, 4
_REFINED_FROM = 6


class Tables(NamedTuple):
    """What has been learnt, shared by all lanes; and the workings of the present bit."""

    history: np.ndarray
    """Every byte coded so far, at its position; zeros where none is yet."""
    buckets: np.ndarray
    count_maps: np.ndarray
    """(contexts, 1024) what the counts of a slot mean."""
    run_maps: np.ndarray
    order_0: np.ndarray
    heads: np.ndarray
    match_maps: np.ndarray
    weights: np.ndarray
    """(sets, 2048, inputs), 16 fractional bits."""
    final_weights: np.ndarray
    """(256, sets), 16 fractional bits."""
    refined: np.ndarray
    """(maps, 16) adaptive probability maps, as what was added to `UNREFINED`."""
    clock: np.ndarray
    """(1,) bits learnt from."""
    hashes: np.ndarray
    """Of the buckets that are looked up."""
    touched: np.ndarray
    """A sum of what will be needed soon, which makes sure that it is loaded by then."""
    inputs: np.ndarray
    """Of the present bit: the mixer's inputs, and which entries of the tables gave them."""
    counts: np.ndarray
    run_cells: np.ndarray
    match_cells: np.ndarray
    rows: np.ndarray
    mixed: np.ndarray
    """Log-odds of each set."""
    given: np.ndarray
    """Probability by each set, and by all of them."""
    refined_cells: np.ndarray


def new_tables(history_bytes: int, bucket_bits: int, contexts: int, *, network: bool) -> Tables:
    """Tables that know nothing, for so many bytes and contexts; `network` makes room for its
    predictions."""
    sets = SETS + (NETWORK_SETS if network else 0)
    inputs = -(-(FIRST_CONTEXT + contexts * PER_CONTEXT) // VECTOR) * VECTOR
    weights = np.full((sets, ROWS, inputs), _FIRST_WEIGHT, np.int32)
    weights[:, :, NETWORK] = _FIRST_NETWORK_WEIGHT
    heads = 1 << max(_LEAST_HEAD_BITS, bucket_bits - _HEAD_BITS_BELOW_BUCKETS)
    maps = BY_MATCH + 2 * BY_CONTEXT + (BY_NETWORK if network else 0)
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
        refined=aligned(maps * KNOTS, np.uint32).reshape(maps, KNOTS),
        clock=np.zeros(1, np.int64),
        hashes=np.zeros(contexts, np.uint64),
        touched=np.zeros(1, np.int64),
        inputs=np.zeros(inputs, np.int32),
        counts=np.zeros(contexts, np.int64),
        run_cells=np.zeros(contexts, np.int64),
        match_cells=np.zeros(MATCHES, np.int64),
        rows=np.zeros(sets, np.int64),
        mixed=np.zeros(sets, np.int32),
        given=np.zeros(sets + 1, np.int32),
        refined_cells=np.zeros(4, np.int64),
    )


def table_bytes(history_bytes: int, bucket_bits: int, contexts: int, *, network: bool) -> int:
    """What `new_tables` takes, in memory."""
    sets = SETS + (NETWORK_SETS if network else 0)
    inputs = -(-(FIRST_CONTEXT + contexts * PER_CONTEXT) // VECTOR) * VECTOR
    heads = MATCHES << max(_LEAST_HEAD_BITS, bucket_bits - _HEAD_BITS_BELOW_BUCKETS)
    maps = BY_MATCH + 2 * BY_CONTEXT + (BY_NETWORK if network else 0)
    words = sets * ROWS * inputs + heads + maps * KNOTS + contexts * (COUNTS + _RUN_MAP)
    return history_bytes + (_BUCKET_BYTES << bucket_bits) + 4 * words


def _unrefined() -> UInt32[np.ndarray, "knots"]:
    knots = np.minimum(STEP * np.arange(KNOTS), 2 * STRETCH_LIMIT - 1)
    return (SQUASH[knots].astype(np.uint32) << 16) | np.uint32(_REFINED_FROM)


UNREFINED = _unrefined()
"""An adaptive probability map that gives back what it is given. Maps are held as differences from
it, so that new ones are zeros and cost nothing before they are used."""
