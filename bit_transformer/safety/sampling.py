"""Whole outputs under a gate: refused, sampled again, or put into the review queue."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from bit_transformer.bits.codec import bits_to_bytes
from bit_transformer.bits.tensor import bits_of
from bit_transformer.errors import GateError, require
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.sampling_config import MAX_TEMPERATURE, SamplingConfig
from bit_transformer.inference.watch import bit_metrics
from bit_transformer.lm import BitTransformerLM
from bit_transformer.model.transformer import evaluating
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.guard import GuardedStream, guarded_stream
from bit_transformer.safety.policy import DOCUMENTED_FLOORS, Verdict
from bit_transformer.safety.review import ReviewItem, ReviewQueue

_MIN_TYPICALITY = 0.1
"""A refused output with T or S below this counts as noise, not as a loop."""
_HOTTER, _COLDER = 1.25, 0.75
"""Factors of the temperature after a loop and after noise."""
_PARAGRAPH = b"""Whoever keeps a garden learns to wait. Seeds sleep under frost, roots move where
nobody looks, and one evening in April all that was only promised stands there, green."""


def hil_safe_inference(
    model: BitTransformerLM,
    bits: Integer[Tensor, "B T"],
    c_floor: float = DOCUMENTED_FLOORS["c"],
    s_floor: float = DOCUMENTED_FLOORS["s"],
    *,
    causal: bool = True,
    strict: bool = True,
    gate: SafetyGate | None = None,
    queue: ReviewQueue | None = None,
) -> tuple[Integer[Tensor, "B T"], Mapping[str, Tensor]]:
    """Return the likeliest next bit after each of `bits`, with telemetry, if `bits` pass the gate.

    By default the gate has the given floors. It judges each sequence in the order of its bits; a
    refused one goes to the `queue`, if there is one. With `strict` a refusal raises `GateError`.
    Otherwise the telemetry's `gate_passed` (B,) marks the sequences that passed. `causal` is that
    of `model(bits, causal=...)`.
    """
    chosen = gate or SafetyGate(c_floor, s_floor)
    with evaluating(model), torch.no_grad():
        logits, telemetry = model(bits, causal=causal)
        metrics = bit_metrics(model.network, bits, window_bits=chosen.window_bits)
        verdicts = [chosen.judge(one) for one in metrics]
    predicted = logits.argmax(-1)
    for row, verdict in enumerate(verdicts):
        if verdict.passed:
            continue
        if queue is not None:
            queue.put(held_back(bits[row], predicted[row], verdict, parity=model.config.parity))
        if strict:
            raise GateError(refusal(verdict))
    passed = torch.tensor([verdict.passed for verdict in verdicts])
    return predicted, telemetry.including(gate_passed=lambda: passed)


@dataclass(frozen=True)
class SafeSample:
    """The result of sampling under a gate."""

    bits: Integer[Tensor, "1 total"]
    """The prompt and the new bits that passed."""
    complete: bool
    """True if all requested bits are there."""
    verdicts: tuple[Verdict, ...]
    """The last verdict of each attempt."""
    queued: str | None
    """Identity of the last refused output in the review queue, or None."""


def safe_sample_with_retry(  # noqa: PLR0913 -- the documented name, all but three by keyword
    model: BitTransformerLM,
    prompt_bits: Integer[Tensor, "1 T"],
    max_new_bits: int,
    *,
    gate: SafetyGate | None = None,
    sampling: SamplingConfig | None = None,
    attempts: int = 3,
    seed: int = 0,
    queue: ReviewQueue | None = None,
    strict: bool = False,
) -> SafeSample:
    """Sample under a gate. A refused stretch is sampled again from the last bit that passed.

    Each attempt draws only the missing bits, with a new seed and a new temperature. The temperature
    falls after noise and rises after a loop. When the last attempt is refused, the refused stretch
    goes to the `queue`, if there is one, and the bits that passed are returned. With `strict` a
    `GateError` is raised instead.

    Raises `ConfigError` for fewer than one attempt or a batch of prompts.
    """
    require(attempts >= 1, "attempts", attempts, "at least 1")
    gate, sampling = gate or SafetyGate(), sampling or SamplingConfig()
    text, missing = prompt_bits.to(torch.uint8).cpu(), max_new_bits
    verdicts: list[Verdict] = []
    for attempt in range(attempts):
        with evaluating(model):
            stream = _attempt(model, text, missing, sampling, gate, seed + attempt)
            new = np.concatenate([np.zeros(0, np.uint8), *stream])
        verdicts.append(stream.verdict)
        text = torch.cat((text, torch.from_numpy(new)[None]), dim=1)
        missing -= len(new)
        if stream.verdict.passed:
            return SafeSample(text, True, tuple(verdicts), None)
        sampling = _other_temperature(sampling, stream.verdict)
    withheld = torch.from_numpy(stream.withheld)
    item = held_back(text[0], withheld, stream.verdict, parity=model.config.parity)
    queued = None if queue is None else queue.put(item)
    if strict:
        raise GateError(f"{refusal(stream.verdict)}, in {attempts} attempts")
    return SafeSample(text, False, tuple(verdicts), queued)


def _attempt(
    model: BitTransformerLM,
    text: Tensor,
    new_bits: int,
    sampling: SamplingConfig,
    gate: SafetyGate,
    seed: int,
) -> GuardedStream:
    width = model.config.bits_per_byte
    room = model.config.max_seq_len // width * width
    # The newest whole bytes that fit the context. Earlier ones need not be read again.
    context = text if text.shape[1] <= room else text[:, text.shape[1] % width :][:, -room:]
    return guarded_stream(model.network, context, new_bits, sampling, gate, seeded(seed))


def _other_temperature(sampling: SamplingConfig, verdict: Verdict) -> SamplingConfig:
    noise = min(verdict.metrics.get("t", 1.0), verdict.metrics.get("s", 1.0)) < _MIN_TYPICALITY
    base = sampling.temperature or 0.5
    factor = _COLDER if noise else _HOTTER
    return dataclasses.replace(sampling, temperature=min(base * factor, MAX_TEMPERATURE))


def infer_text(
    model: BitTransformerLM,
    text: str,
    max_new_bytes: int = 100,
    *,
    gate: SafetyGate | None = None,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
) -> str:
    """Continue `text` with valid UTF-8. With a gate, return the part of the continuation that
    passes; it may then contain replacement characters."""
    chosen = dataclasses.replace(sampling or SamplingConfig(), valid_utf8=gate is None)
    parity = model.config.parity
    prompt = bits_of(text.encode(), parity=parity)
    new_bits = max_new_bytes * model.config.bits_per_byte
    if gate is not None:
        bits = safe_sample_with_retry(
            model, prompt, new_bits, gate=gate, sampling=chosen, seed=seed
        ).bits
    else:
        bits = model.generate(
            prompt, new_bits, **dataclasses.asdict(chosen), generator=seeded(seed)
        )
    return bits_to_bytes(bits[0, prompt.shape[1] :].numpy(), parity=parity).decode(errors="replace")


def demo_hil_safety(model: BitTransformerLM | None = None, gate: SafetyGate | None = None) -> None:
    """Print a gate's verdicts on a paragraph, a loop and noise. By default the gate has the
    documented floors and the model is untrained."""
    chosen = model or BitTransformerLM(d_model=32, nhead=2, num_layers=2, dim_feedforward=64)
    noise = np.random.default_rng(0).bytes(192)
    examples = {"a paragraph": _PARAGRAPH, "a loop": b"tick tock " * 20, "noise": noise}
    for name, data in examples.items():
        bits = bits_of(data, parity=chosen.config.parity)
        try:
            hil_safe_inference(chosen, bits, gate=gate)
            print(f"{name}: passed")
        except GateError as error:
            print(f"{name}: {error}")


def held_back(
    prompt: Integer[Tensor, " p"], output: Integer[Tensor, " n"], verdict: Verdict, *, parity: bool
) -> ReviewItem:
    """Return the review item of an output that the gate refused."""
    return ReviewItem(
        prompt=prompt.cpu().numpy().astype(np.uint8),
        output=output.cpu().numpy().astype(np.uint8),
        reasons=verdict.reasons,
        telemetry={"readings": dict(verdict.metrics), "patch": verdict.patch},
        parity=parity,
    )


def refusal(verdict: Verdict) -> str:
    """Describe a failing verdict in one line."""
    reasons = "; ".join(verdict.reasons)
    return f"the gate refused after {verdict.patch} patches: {reasons}"
