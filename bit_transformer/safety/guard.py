"""Streaming generation that ends before the first stretch that the gate refuses."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from bit_transformer.errors import require
from bit_transformer.inference.predictor import Source
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import Ended, Stop
from bit_transformer.inference.watch import Watch, WatchedStretch, watch
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.policy import Verdict

HELD_BITS = 512
"""Default delay between generation and output, in bits: 64 bytes."""
PATCHES_AT_ONCE = 32
"""Number of patches judged together. `benchmarks/bench_telemetry.py` measures the cost."""


class GuardedStream:
    """An iterator over new bits that have passed the gate. Iterate over it once.

    The gate notices a bad stretch only after a few patches of it. Bits are therefore yielded once
    the `held_bits` bits after them have been judged too. When the gate refuses, the stream ends,
    and the bits that were still waiting are in `withheld`.
    """

    def __init__(self, watched: Watch, gate: SafetyGate, *, held_bits: int = HELD_BITS) -> None:
        """Reset the gate and let it observe the prompt. Raises `ConfigError` if `held_bits` < 0."""
        require(held_bits >= 0, "held_bits", held_bits, "at least 0")
        self._watched, self._gate, self._held_bits = watched, gate, held_bits
        self._waiting: deque[WatchedStretch] = deque()
        gate.reset()
        gate.observe(watched.prompt_metrics)
        self.verdict = Verdict(True, (), {}, gate.patches, warming_up=True)
        """The newest verdict."""

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
        """Reason for the end of the stream. None until it has ended."""
        return self._watched.ended if self.verdict.passed else "gate"

    @property
    def withheld(self) -> UInt8[np.ndarray, " n"]:
        """The bits that were generated but not yielded."""
        parts = [stretch.bits for stretch in self._waiting]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def guarded_stream(
    source: Source,
    prompt_bits: Integer[Tensor, "B T"],
    max_new_bits: int,
    sampling: SamplingConfig,
    gate: SafetyGate,
    generator: torch.Generator | None = None,
    *,
    held_bits: int = HELD_BITS,
    stop: Stop = (),
) -> GuardedStream:
    """Generate one sequence under a gate. The gate does not judge bits that a stop string cuts off,
    because they are never output. Errors are those of `watch`."""
    watched = watch(
        source,
        prompt_bits,
        max_new_bits,
        sampling,
        generator,
        patches_at_once=PATCHES_AT_ONCE,
        window_bits=gate.window_bits,
        stop=stop,
    )
    return GuardedStream(watched, gate, held_bits=held_bits)
