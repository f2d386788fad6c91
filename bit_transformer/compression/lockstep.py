"""Codes the lanes of a block in lock-step, a patch of each in turn.

One function serves both directions, so that the decoder does exactly what the encoder did. They
differ only in where a bit comes from: from the data, or from the arithmetic decoder.
"""

from typing import NamedTuple

import numpy as np

from bit_transformer.bits.parity import parity_of_bytes
from bit_transformer.compression.lane_arithmetic import scaled_log_odds, step
from bit_transformer.compression.lanes import Lanes
from bit_transformer.compression.mixing import begin_byte, end_byte, predict, update
from bit_transformer.compression.network import Trunk
from bit_transformer.compression.range_coder import decode_bit, encode_bit
from bit_transformer.compression.tables import Tables
from bit_transformer.native.functions import compiled_lean

ENCODE, DECODE, LEARN = 0, 1, 2
"""Directions. LEARN learns from known bytes and codes nothing."""
_PARITY = parity_of_bytes(np.arange(256, dtype=np.uint8))


class Plan(NamedTuple):
    """The task of one call of `code_patches`."""

    direction: int
    data_start: int
    """Position in the history of the first byte of the data."""
    profile: int
    """Profile of contexts; see `contexts`."""
    patch_size: int
    byte_bits: int
    """9 if the network reads parity bits, which are not coded, else 8."""
    patches: int
    """Patches per lane."""


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
    """Code the next patches of every lane, and put the values of the last ones into `patches` (L,).

    `data` holds the bytes of the history from `plan.data_start` on; DECODE does not read it.
    `log_odds` (L, 2**P) are a network's for each node, (L, 0) without a network. Lanes that have
    ended are padded with zeros.
    """
    direction, data_start, profile, patch_size, byte_bits, rounds = plan
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
                    byte = np.int64(data[lanes.position[lane] - data_start])
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
    """Code patches, and let the network read each as soon as it is known. `log_odds` are those of
    the next patch, both before and afterwards."""
    direction, data_start, profile, patch_size, byte_bits, rounds = plan
    one = Plan(direction, data_start, profile, patch_size, byte_bits, 1)
    for _ in range(rounds):
        code_patches(coder, buffer, tables, lanes, data, log_odds, patches, one)
        step(trunk.weights, trunk.state, patches, np.bool_(False), trunk.reversible)
        scaled_log_odds(trunk.state, trunk.logit_cap, log_odds)
