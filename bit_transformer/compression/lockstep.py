"""Codes the lanes of a block in lock-step, a patch of each in turn.

One function for both directions: what a decoder does is what the encoder did, but for where a bit
comes from.
"""

from typing import NamedTuple

import numpy as np

from bit_transformer.bits.parity import parity_of_bytes
from bit_transformer.compression.lane_arithmetic import (
    LaneState,
    Weights,
    scaled_log_odds,
    step,
)
from bit_transformer.compression.lanes import Lanes
from bit_transformer.compression.mixing import begin_byte, end_byte, predict, update
from bit_transformer.compression.range_coder import decode_bit, encode_bit
from bit_transformer.compression.tables import Tables
from bit_transformer.native.functions import compiled_lean

ENCODE, DECODE, LEARN = 0, 1, 2
"""Directions; LEARN reads what is known already and codes nothing."""
_PARITY = parity_of_bytes(np.arange(256, dtype=np.uint8))


class Plan(NamedTuple):
    """What a call of `code_patches` does."""

    direction: int
    first: int
    """Position in the history of the first byte of the data."""
    profile: int
    """See `contexts`."""
    patch_size: int
    byte_bits: int
    """9 with parity bits, which are not coded, else 8."""
    patches: int
    """Of each lane."""


class Trunk(NamedTuple):
    """A network and what it has read, all lanes in one state."""

    weights: Weights
    state: LaneState
    reversible: bool
    logit_cap: float


@compiled_lean
def code_patches(
    coder: np.ndarray,
    buffer: np.ndarray,
    tables: Tables,
    lanes: Lanes,
    data: np.ndarray,
    log_odds: np.ndarray,
    patches: np.ndarray,
    plan: Plan,
) -> None:
    """Code the next patches of every lane; their values are in `patches` (L,) then.

    `data` holds the bytes of the history from `plan.first` on, when the direction is not DECODE.
    `log_odds` (L, 2**P) are what a network gives each node, (L, 0) without one. Lanes that have
    ended are padded with zeros.
    """
    direction, first, profile, patch_size, byte_bits, rounds = plan
    for _ in range(rounds):
        for lane in range(patches.size):
            node = 1
            for _ in range(patch_size):
                if lanes.position[lane] >= lanes.end[lane]:
                    node <<= 1
                    continue
                if lanes.bit_index[lane] == 8:
                    node = (node << 1) | np.int64(_PARITY[lanes.node[lane] & 255])
                    end_byte(tables, lanes, lane)
                    continue
                if lanes.bit_index[lane] == 0:
                    begin_byte(tables, lanes, lane, profile)
                network = np.int64(log_odds[lane, node]) if log_odds.shape[1] else 0
                probability = predict(tables, lanes, lane, network)
                if direction == DECODE:
                    bit = decode_bit(coder, buffer, probability)
                else:
                    byte = np.int64(data[lanes.position[lane] - first])
                    bit = (byte >> (7 - lanes.bit_index[lane])) & 1
                    if direction == ENCODE:
                        encode_bit(coder, buffer, probability, bit)
                update(tables, lanes, lane, bit)
                node = (node << 1) | bit
                if lanes.bit_index[lane] == byte_bits:
                    end_byte(tables, lanes, lane)
            patches[lane] = node - (1 << patch_size)


@compiled_lean
def code_patches_with_network(  # noqa: PLR0913 arrays, one by one
    coder: np.ndarray,
    buffer: np.ndarray,
    tables: Tables,
    lanes: Lanes,
    data: np.ndarray,
    log_odds: np.ndarray,
    patches: np.ndarray,
    plan: Plan,
    trunk: Trunk,
) -> None:
    """`code_patches`, the network reading every patch as soon as it is known; `log_odds` are those
    of the patch that comes next, before and afterwards."""
    direction, first, profile, patch_size, byte_bits, rounds = plan
    one = Plan(direction, first, profile, patch_size, byte_bits, 1)
    for _ in range(rounds):
        code_patches(coder, buffer, tables, lanes, data, log_odds, patches, one)
        step(trunk.weights, trunk.state, patches, np.bool_(False), trunk.reversible)
        scaled_log_odds(trunk.state, trunk.logit_cap, log_odds)
