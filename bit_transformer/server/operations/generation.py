"""Continue a prompt: `infer` returns all new bytes at once, `generate` streams them patch by patch
with everything that is known about each patch."""

import math
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from bit_transformer.bits.codec import bits_to_bytes, patch_text
from bit_transformer.bits.tensor import bits_of
from bit_transformer.errors import ConfigError
from bit_transformer.inference.predictor import Source
from bit_transformer.inference.samples import Sample, draw_samples
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import MAX_STOP_BYTES, MAX_STOP_STRINGS, Ended, stop_strings
from bit_transformer.inference.watch import WatchedStretch, watch
from bit_transformer.lm import BitTransformerLM
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.guard import guarded_stream
from bit_transformer.safety.review import ReviewQueue
from bit_transformer.safety.sampling import held_back
from bit_transformer.server.data_request import decode, encode, to_base64
from bit_transformer.server.mixing import MixRequest
from bit_transformer.server.models import trained_steps
from bit_transformer.server.operations.registry import Engine, direct, stream
from bit_transformer.server.schemas import NewestRun, Response, Seed, Text
from bit_transformer.server.settings import MAX_NEW_BYTES
from bit_transformer.training.run_folder import RunFolder

_MAX_SAMPLES = 64
Figures = Literal["static", "adaptive"]
StopText = Annotated[str, Field(min_length=1, max_length=2 * MAX_STOP_BYTES)]
"""A stop string as text or in base64, which is longer than its bytes."""


class PromptRequest(NewestRun, MixRequest):
    """A prompt and how to go on."""

    prompt: Text = ""
    """Text to continue."""
    prompt_base64: Text | None = None
    """Bytes to continue, instead of a text."""
    new_bytes: Annotated[int, Field(ge=1, le=MAX_NEW_BYTES)] = 200
    """Number of bytes to add."""
    sampling: SamplingConfig = SamplingConfig()
    """How patches are drawn."""
    seed: Seed = 0
    """Random seed. The same seed gives the same bytes."""
    stop: Annotated[list[StopText], Field(max_length=MAX_STOP_STRINGS)] = Field(
        default_factory=list
    )
    """End before the first of these texts in the new bytes."""
    stop_base64: Annotated[list[StopText], Field(max_length=MAX_STOP_STRINGS)] = Field(
        default_factory=list
    )
    """Stop strings of any bytes, in base64."""

    @model_validator(mode="after")
    def _decodable(self) -> "PromptRequest":
        self.prompt_bytes()
        self.stops()
        return self

    def stops(self) -> tuple[bytes, ...]:
        """Return the stop strings; raises `ConfigError` if one is not valid."""
        strings = [encode(text) for text in self.stop]
        strings += [decode(text) for text in self.stop_base64]
        return stop_strings(strings, valid_utf8=self.sampling.valid_utf8)

    def prompt_bytes(self) -> bytes:
        """Return the prompt; raises `ConfigError` if it cannot be decoded."""
        if self.prompt_base64 is None:
            return encode(self.prompt)
        if self.prompt:
            raise ConfigError("prompt and prompt_base64 were both given; choose one")
        return decode(self.prompt_base64)


class InferRequest(PromptRequest):
    """A prompt to continue."""

    gate: bool = False
    """Cut the output where the gate that was calibrated with the model first refuses it. With
    `mix`, the metrics are those of the mixture, and the floors those of the model alone."""
    queue: bool = True
    """Put refused output into the review queue."""
    samples: Annotated[int, Field(ge=1, le=_MAX_SAMPLES)] = 1
    """Number of continuations. The first one does not depend on this number."""

    @model_validator(mode="after")
    def _answerable(self) -> "InferRequest":
        if self.gate and self.samples != 1:
            raise ConfigError(
                f"samples must be 1 with a gate, got {self.samples}; leave samples or gate out"
            )
        if self.samples * self.new_bytes > MAX_NEW_BYTES:
            raise ConfigError(
                f"a request may generate at most {MAX_NEW_BYTES} bytes, got {self.samples} samples "
                f"of {self.new_bytes}; ask for fewer or shorter ones"
            )
        return self


class Continuation(Response):
    """One sample."""

    text: str
    """The new bytes as text. Bytes that are not UTF-8 are shown as U+FFFD."""
    base64: str
    """The new bytes in base64."""
    new_bytes: int
    ended: Ended
    """Why the output ended: at the requested length, at a stop string, or at the gate."""


class Inferred(Response):
    """The continuations of a prompt."""

    run: str
    step: int
    """Training steps of the model."""
    text: str
    """The new bytes as text. Bytes that are not UTF-8 are shown as U+FFFD."""
    base64: str
    """The new bytes in base64."""
    new_bytes: int
    ended: Ended
    """Why the output ended: at the requested length, at a stop string, or at the gate."""
    samples: list[Continuation]
    """All continuations. The fields above describe the first one."""
    passed: bool | None
    """Whether the gate passed all of the output; None without a gate."""
    reasons: list[str]
    """Why the gate refused the output."""
    queued: str | None
    """Item in the review queue that holds the refused output."""
    mix: bool
    """Whether a context mixer was mixed with the model."""
    seconds: float


class GenerateRequest(PromptRequest):
    """A prompt to continue patch by patch."""

    alternatives: Annotated[int, Field(ge=0, le=64)] = 4
    """Number of likeliest values to list for each patch."""


class Alternative(Response):
    """A value that a patch could have had."""

    value: int
    shown: str
    """The value as a character if it is printable, else as a number."""
    probability: float


class GlassPatch(Response):
    """One new patch, by default a byte."""

    done: int
    """New bits so far, including this patch."""
    total: int
    """New bits in all, unless a stop string ends the output."""
    bits: str
    """The new bits as zeros and ones."""
    value: int | None
    """Value of the patch; None if only a part of the patch is new."""
    shown: str
    """The value as a character if it is printable, else as a number. Empty without a value."""
    surprisal: float
    """Surprisal of the patch in bits."""
    bit_surprisals: list[float | None]
    """Surprisal of each of its bits, in bits."""
    p_ones: list[float]
    """Probability of a one that the model predicted for each bit."""
    readings: dict[str, float | None]
    """K, C, S, T and U of the latest output. Empty for a part of a patch."""
    alternatives: list[Alternative]
    """The likeliest values of the patch, best first. The drawn value may be among them."""
    figures: Figures
    """Whether all figures are static, those of the model alone, or adaptive, those of the model and
    a mixer that learns from each byte after it is drawn."""


@direct("POST", "/infer", lane="compute")
def infer(engine: Engine, request: InferRequest) -> Inferred:
    """Continue a prompt, through the model's gate if requested."""
    run, began = engine.run_or_newest(request.run), time.monotonic()
    with engine.models.computing(run) as model:
        facts: dict[str, Any] = {"passed": None, "reasons": [], "queued": None}
        source = _source(engine, run, model, request)
        if request.gate:
            made, facts = _guarded(engine, run, source, request)
        else:
            made = list(
                draw_samples(
                    source,
                    request.prompt_bytes(),
                    request.new_bytes,
                    request.sampling,
                    seed=request.seed,
                    samples=request.samples,
                    stop=request.stops(),
                )
            )
    samples = [
        Continuation(
            text=sample.content.decode(errors="replace"),
            base64=to_base64(sample.content),
            new_bytes=len(sample.content),
            ended=sample.ended,
        )
        for sample in made
    ]
    return Inferred(
        run=run.path.name,
        step=trained_steps(run),
        samples=samples,
        mix=request.mixes,
        seconds=time.monotonic() - began,
        **samples[0].model_dump(),
        **facts,
    )


def _source(
    engine: Engine, run: RunFolder, model: BitTransformerLM, request: PromptRequest
) -> Source:
    """Return the model, mixed with a context mixer if the request asks for it."""
    if not request.mixes:
        return model.network
    prompt = request.prompt_bytes()
    length = len(prompt) + request.new_bytes
    return engine.models.mixers.mixed(run, model, request, sample=prompt, data_bytes=length)


def _guarded(
    engine: Engine, run: RunFolder, source: Source, request: InferRequest
) -> tuple[list[Sample], dict[str, Any]]:
    """Return the sample that the gate passed, and the fields of the answer about the gate."""
    prompt = bits_of(request.prompt_bytes(), parity=source.config.parity)
    gate = SafetyGate.from_pretrained(run.path)
    if gate is None:
        raise ConfigError(
            f"{run.path.name} has no calibrated gate; train with more held-out data, or send the "
            "request without gate"
        )
    stream = guarded_stream(
        source,
        prompt,
        request.new_bytes * source.config.bits_per_byte,
        request.sampling,
        gate,
        seeded(request.seed),
        stop=request.stops(),
    )
    new = np.concatenate([np.zeros(0, np.uint8), *stream])
    verdict, queued = stream.verdict, None
    if not verdict.passed and request.queue:
        withheld = torch.from_numpy(stream.withheld)
        item = held_back(prompt[0], withheld, verdict, parity=source.config.parity)
        queued = ReviewQueue(engine.workspace.review).put(item)
    facts = {"passed": verdict.passed, "reasons": list(verdict.reasons), "queued": queued}
    assert stream.ended is not None
    return [Sample(_whole_bytes(source, new), stream.ended)], facts


def _whole_bytes(source: Source, bits: np.ndarray) -> bytes:
    """Return the complete bytes at the beginning of some bits."""
    width = source.config.bits_per_byte
    return bits_to_bytes(bits[: len(bits) // width * width], parity=source.config.parity)


@stream("/generate")
def generate(engine: Engine, request: GenerateRequest) -> Iterator[GlassPatch]:
    """Continue a prompt patch by patch, with surprisal, K, C, S and alternatives of each patch."""
    run = engine.run_or_newest(request.run)
    with engine.models.computing(run) as model:
        total = request.new_bytes * model.config.bits_per_byte
        stretches = watch(
            _source(engine, run, model, request),
            bits_of(request.prompt_bytes(), parity=model.config.parity),
            total,
            request.sampling,
            seeded(request.seed),
            stop=request.stops(),
        )
        done = 0
        figures: Figures = "adaptive" if request.mixes else "static"
        for stretch in stretches:
            done += len(stretch.bits)
            yield _patch(
                stretch, model.config.patch_size, done, total, request.alternatives, figures
            )


def _patch(
    stretch: WatchedStretch,
    patch_size: int,
    done: int,
    total: int,
    count: int,
    figures: Figures = "static",
) -> GlassPatch:
    bits = "".join(map(str, stretch.bits))
    value = int(bits, 2) if len(bits) == patch_size else None
    readings: dict[str, float | None] = {}
    if len(stretch.readings):
        found = stretch.readings.at(-1)
        readings = {name: _finite_or_none(found[name]) for name in ("k", "c", "s", "t", "u")}
    (others,) = stretch.alternatives(count) if count else ([],)
    surprisals = stretch.surprisal
    return GlassPatch(
        done=done,
        total=total,
        bits=bits,
        value=value,
        shown="" if value is None else patch_text(value, patch_size),
        surprisal=float(surprisals.sum()),
        bit_surprisals=[_finite_or_none(float(one)) for one in surprisals],
        p_ones=stretch.p_ones.tolist(),
        readings=readings,
        alternatives=[
            Alternative(value=other, shown=patch_text(other, patch_size), probability=p)
            for other, p in others
        ],
        figures=figures,
    )


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


OPERATIONS = (infer, generate)
