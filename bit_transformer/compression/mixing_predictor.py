"""The context mixer as a predictor: it reads the bits of one sequence and predicts the next one.

It starts untrained and learns from every bit that it reads. That makes it the baseline that a
trained network has to beat.
"""

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bit_transformer.bits.array import as_bits
from bit_transformer.compression.block import table_bits_for
from bit_transformer.compression.contexts import CONTEXTS, TEXT
from bit_transformer.compression.fixed_point import ONE
from bit_transformer.compression.lanes import Lanes, new_lanes
from bit_transformer.compression.mixing import begin_byte, end_byte, predict, update
from bit_transformer.compression.tables import Tables, new_tables
from bit_transformer.errors import ContextLengthError, InvalidBitsError
from bit_transformer.native.functions import compiled_lean

_BYTE_BITS = 8


class MixingPredictor:
    """Reads one sequence by context mixing, any number of bits at a time.

    It has room for `capacity` bytes. Their bits come most significant first, without parity bits.
    `profile` is one of the profiles in `contexts`.
    """

    def __init__(self, capacity: int = 1 << 20, *, profile: int = TEXT) -> None:
        contexts = CONTEXTS[profile]
        self._tables = new_tables(capacity, table_bits_for(capacity), contexts, network=False)
        self._lanes = new_lanes(1, contexts)
        self._lanes.end[0] = capacity
        self._capacity, self._profile = capacity * _BYTE_BITS, profile
        self.length = 0
        """Number of bits read."""
        _begin(self._tables, self._lanes, profile)

    def probability(self) -> float:
        """Return the probability that the next bit is a one. Raises `ContextLengthError` if the
        capacity is used up."""
        self._require_room(1)
        return int(_probability(self._tables, self._lanes)) / ONE

    def read(self, bits: Integer[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """Read bits (1, T); return log2 of the probability of each, given all bits before it.

        Raises `ContextLengthError` beyond the capacity, and `InvalidBitsError` for several
        sequences or for values other than 0 and 1. Nothing is read then.
        """
        if bits.ndim != 2 or len(bits) != 1:
            raise InvalidBitsError(
                f"bits must be one sequence (1, T), got shape {tuple(bits.shape)}; make a "
                "predictor for each sequence"
            )
        row = as_bits(bits[0].cpu().numpy())
        self._require_room(row.size)
        self.length += row.size
        had = np.empty(row.size, np.int64)
        _read(self._tables, self._lanes, row, had, self._profile)
        return torch.from_numpy(np.log2(had / ONE, dtype=np.float32))[None]

    def _require_room(self, bits: int) -> None:
        if self.length + bits > self._capacity:
            raise ContextLengthError(
                f"this predictor has room for {self._capacity // _BYTE_BITS} bytes; make one with "
                "a larger capacity"
            )


@compiled_lean
def _begin(tables: Tables, lanes: Lanes, profile: int) -> None:
    begin_byte(tables, lanes, 0, profile)


@compiled_lean
def _probability(tables: Tables, lanes: Lanes) -> int:
    return predict(tables, lanes, 0, 0)


@compiled_lean
def _read(tables: Tables, lanes: Lanes, bits: np.ndarray, had: np.ndarray, profile: int) -> None:
    """Read bits into lane 0, and put the probability of each, of 65536, into `had`."""
    for index in range(bits.size):
        probability, bit = predict(tables, lanes, 0, 0), np.int64(bits[index])
        had[index] = probability if bit else ONE - probability
        update(tables, lanes, 0, bit)
        if lanes.bit_index[0] == _BYTE_BITS:
            end_byte(tables, lanes, 0)
            if lanes.position[0] < lanes.end[0]:
                begin_byte(tables, lanes, 0, profile)
