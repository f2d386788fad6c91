"""Generation under a gate: cut at the first bad stretch, before it has been handed out."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from bit_transformer.errors import ConfigError
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import Ended, Stop
from bit_transformer.inference.watch import Watch, WatchedStretch, watch
from bit_transformer.model.transformer import BitTransformer
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.policy import Verdict

HELD_BITS = 512
"""Bits that are held back until what follows them has been judged, by default: 64 bytes."""
PATCHES_AT_ONCE = 32
"""Patches judged together; `benchmarks/bench_telemetry.py` has what that costs."""


class GuardedStream:
    """New bits that have passed the gate; iterate over it once.

    A bad stretch is noticed some way into it, so that the newest `held_bits` bits wait until those
    after them have been judged too. When the gate refuses, the stream ends and what waited is in
    `withheld`, never in the stream.
    """

    def __init__(self, watched: Watch, gate: SafetyGate, *, held_bits: int = HELD_BITS) -> None:
        """Raises `ConfigError` for a negative `held_bits`. The gate is reset and follows on."""
        if held_bits < 0:
            raise ConfigError(f"held_bits must be at least 0, got {held_bits}")
        self._watched, self._gate, self._held_bits = watched, gate, held_bits
        self._waiting: deque[WatchedStretch] = deque()
        gate.reset()
        gate.observe(watched.prompt_readings)
        self.verdict = Verdict(True, (), {}, gate.patches, warming_up=True)
        """The newest verdict; the last one when the stream has ended."""

    def __iter__(self) -> Iterator[UInt8[np.ndarray, " n"]]:
        for stretch in self._watched:
            self._waiting.append(stretch)
            self.verdict = self._gate.follow(stretch.readings)
            if not self.verdict.passed:
                return
            while self._waiting and self._bits_after_the_oldest() >= self._held_bits:
                yield self._waiting.popleft().bits
        while self._waiting:
            yield self._waiting.popleft().bits

    def _bits_after_the_oldest(self) -> int:
        return sum(len(stretch.bits) for stretch in self._waiting) - len(self._waiting[0].bits)

    @property
    def ended(self) -> Ended | None:
        """Why the stream ended; None while it goes on."""
        return self._watched.ended if self.verdict.passed else "gate"

    @property
    def withheld(self) -> UInt8[np.ndarray, " n"]:
        """The bits that were generated and not handed out."""
        parts = [stretch.bits for stretch in self._waiting]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def guarded_stream(
    network: BitTransformer,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    gate: SafetyGate,
    generator: torch.Generator | None = None,
    *,
    held_bits: int = HELD_BITS,
    stop: Stop = (),
) -> GuardedStream:
    """Generate one sequence under a gate; errors of `watch`. The gate does not judge what a stop
    string cuts off, for nobody is given it."""
    watched = watch(
        network,
        prompt_bits,
        max_new_bits,
        sampling,
        generator,
        patches_at_once=PATCHES_AT_ONCE,
        window_bits=gate.window_bits,
        stop=stop,
    )
    return GuardedStream(watched, gate, held_bits=held_bits)
