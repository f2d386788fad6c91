"""Bit automata that keep samples decodable: correct parity, valid UTF-8, a complete last byte."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from bit_transformer.bits.codec import bits_per_symbol
from bit_transformer.errors import ConfigError, DecodeError

DEAD = -1
START = 1
_UNREACHABLE = 1 << 20


@dataclass(frozen=True)
class BitAutomaton:
    """A finite automaton over bits. Sequences begin at START and may end where `distance` is 0."""

    next_state: np.ndarray
    """The state after a 0 and after a 1, or DEAD, (states, 2)."""
    distance: np.ndarray
    """Fewest bits to a state where a sequence may end, (states + 1,). The last entry is DEAD's."""
    byte_bits: int
    """Bits per byte: 8, or 9 with parity. Distances to all possible ends agree modulo this."""

    def walk(self, states: np.ndarray, bits: np.ndarray) -> np.ndarray:
        """Return the states after one more bit each. DEAD stays DEAD."""
        return np.where(states == DEAD, DEAD, self.next_state[states, bits])

    def can_end_after(self, state: int, bits: int) -> bool:
        """Return whether some valid sequence ends exactly `bits` bits after `state`."""
        spare = bits - int(self.distance[state])
        return spare >= 0 and spare % self.byte_bits == 0


def _bit_automaton(bytes_after: np.ndarray, *, parity: bool) -> BitAutomaton:
    """Expand a byte automaton, (states, 256), to bits. State 0 is its start and its only end.

    A bit state is `byte state * width + node`; the node is the prefix of the byte, led by a one.
    """
    width = 512 if parity else 256
    next_state = np.full((len(bytes_after) * width, 2), DEAD)
    for byte_state, after in enumerate(bytes_after):
        base = byte_state * width
        starts = [DEAD if state == DEAD else state * width + START for state in after]
        for node in range(START, 256):
            for bit in (0, 1):
                child = 2 * node + bit
                inside = child < 256 or parity
                next_state[base + node, bit] = base + child if inside else starts[child - 256]
        if parity:
            for value in range(256):
                next_state[base + 256 + value, value.bit_count() % 2] = starts[value]
    distance = _distances(next_state)
    alive = np.where(distance[next_state] < _UNREACHABLE, next_state, DEAD)
    return BitAutomaton(alive, distance, bits_per_symbol(parity))


def _distances(next_state: np.ndarray) -> np.ndarray:
    """Return the fewest bits from each state to START, where sequences may end; DEAD's is last."""
    distance = np.full(len(next_state) + 1, _UNREACHABLE)
    distance[START] = 0
    while True:
        through_next = np.minimum(distance[:-1], distance[next_state].min(-1) + 1)
        if (through_next == distance[:-1]).all():
            return distance
        distance[:-1] = through_next


def _utf8_bytes() -> np.ndarray:
    """Return the byte automaton of well-formed UTF-8 (Unicode standard, table 3-7), (8, 256)."""
    after = np.full((8, 256), DEAD)
    tail_1, tail_2, tail_3, after_e0, after_ed, after_f0, after_f4 = range(1, 8)
    after[0, 0x00:0x80] = 0
    after[0, 0xC2:0xE0] = tail_1
    after[0, 0xE0:0xF0] = tail_2
    after[0, 0xF0:0xF5] = tail_3
    for lead, state in ((0xE0, after_e0), (0xED, after_ed), (0xF0, after_f0), (0xF4, after_f4)):
        after[0, lead] = state
    after[tail_1, 0x80:0xC0] = 0
    after[tail_2, 0x80:0xC0] = tail_1
    after[tail_3, 0x80:0xC0] = tail_2
    after[after_e0, 0xA0:0xC0] = tail_1
    after[after_ed, 0x80:0xA0] = tail_1
    after[after_f0, 0x90:0xC0] = tail_2
    after[after_f4, 0x80:0x90] = tail_2
    return after


@functools.cache
def decodable(*, utf8: bool, parity: bool) -> BitAutomaton:
    """Return the automaton of whole bytes, optionally with parity and with valid UTF-8 only."""
    any_byte = np.zeros((1, 256), dtype=np.int64)
    return _bit_automaton(_utf8_bytes() if utf8 else any_byte, parity=parity)


class Constraint:
    """The automaton states of a batch of sequences while their patches are drawn."""

    def __init__(self, automaton: BitAutomaton, prompt_bits: Integer[np.ndarray, "B T"]) -> None:
        """Read the prompts. Raises `DecodeError` if a prompt has no decodable continuation."""
        self.automaton = automaton
        self._masks: dict[tuple[int, int, int, int], Tensor] = {}
        self.states = np.full(len(prompt_bits), START)
        for position, column in enumerate(prompt_bits.T):
            self.states = automaton.walk(self.states, column)
            if (self.states == DEAD).any():
                row, bad_byte = int((self.states == DEAD).argmax()), position // automaton.byte_bits
                raise DecodeError(
                    f"prompt {row} cannot begin a decodable sequence: byte {bad_byte} is wrong at "
                    f"bit {position}; correct the prompt or remove the constraint",
                    byte_index=bad_byte,
                )

    def require_end_after(self, bits: int) -> None:
        """Raise `ConfigError` unless every sequence of the batch can end after `bits` more bits."""
        for row, state in enumerate(self.states):
            if not self.automaton.can_end_after(int(state), bits):
                raise ConfigError(
                    f"no decodable sequence ends {bits} bits after prompt {row}; request whole "
                    f"bytes ({self.automaton.byte_bits} bits each), and enough of them to complete "
                    "its last character"
                )

    def allowed(
        self, patch_size: int, first: int, stop: int, remaining: int
    ) -> Bool[Tensor, "B values"]:
        """Return which patch values may come next. Their bits `first` to `stop - 1` continue the
        sequence, and the `remaining` bits after them suffice to end it."""
        masks = [self._mask(int(s), patch_size, first, stop, remaining) for s in self.states]
        return torch.stack(masks)

    def advance(self, bits: Integer[np.ndarray, "B r"]) -> None:
        """Move on by the drawn bits."""
        for column in bits.T:
            self.states = self.automaton.walk(self.states, column)

    def _mask(
        self, state: int, patch_size: int, first: int, stop: int, remaining: int
    ) -> Bool[Tensor, " values"]:
        key = (state, first, stop, min(remaining, 4 * self.automaton.byte_bits))
        if key not in self._masks:
            values = np.arange(2**patch_size)
            states = np.full(len(values), state)
            for depth in range(first, stop):
                states = self.automaton.walk(states, (values >> (patch_size - 1 - depth)) & 1)
            self._masks[key] = torch.from_numpy(self.automaton.distance[states] <= remaining)
        return self._masks[key]
