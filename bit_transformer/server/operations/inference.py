"""Questions to a model: continue a prompt, read a long sequence, score, look inside."""

import copy
import time
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch.nn import functional

from bit_transformer.bits.codec import bits_to_bytes, bytes_to_bits
from bit_transformer.errors import ConfigError, TooLargeError
from bit_transformer.inference.samples import Sample
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.stop import (
    Ended,
)
from bit_transformer.lm import BitTransformerLM, infer_long_sequence
from bit_transformer.model.transformer import bit_logits
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.guard import guarded_stream
from bit_transformer.safety.review import ReviewQueue
from bit_transformer.safety.sampling import held_back
from bit_transformer.server.data_request import DataRequest, to_base64
from bit_transformer.server.models import trained_steps
from bit_transformer.server.operations.prompt_request import PromptRequest
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.schemas import NewestRun, Response
from bit_transformer.server.settings import MOST_NEW_BYTES
from bit_transformer.telemetry.forward_pass import pass_readings
from bit_transformer.telemetry.probe import Probe
from bit_transformer.training.run_folder import RunFolder

_MOST_SCORED = 4 << 20
_MOST_LONG = 1 << 18
_MOST_WINDOWS = 1024
_MOST_SURPRISALS = 1 << 16
_MOST_LOOKED_AT = 128
"""Bytes; a map of attention has the square of it."""
_MOST_SAMPLES = 64


class InferRequest(PromptRequest):
    """A prompt to continue."""

    gate: bool = False
    """Cut the output at the first stretch that the gate calibrated with the model refuses."""
    queue: bool = True
    """Put what the gate refuses into the review queue."""
    samples: Annotated[int, Field(ge=1, le=_MOST_SAMPLES)] = 1
    """How many continuations; the first is the same however many there are."""

    @model_validator(mode="after")
    def _answerable(self) -> "InferRequest":
        if self.gate and self.samples != 1:
            raise ConfigError("the gate follows one sample; leave samples out, or gate")
        if self.samples * self.new_bytes > MOST_NEW_BYTES:
            raise ConfigError(
                f"at most {MOST_NEW_BYTES} bytes are made while a request waits, got "
                f"{self.samples} samples of {self.new_bytes}; ask for fewer or shorter ones"
            )
        return self


class Continuation(Response):
    """One sample."""

    text: str
    """The new bytes as text; what is no UTF-8 is shown as U+FFFD."""
    base64: str
    """The new bytes."""
    new_bytes: int
    ended: Ended
    """Why there are no more: all that were asked for, a stop string, or the gate."""


class Inferred(Response):
    """What a model made of a prompt."""

    run: str
    step: int
    """Training steps behind the model."""
    text: str
    """The new bytes as text; what is no UTF-8 is shown as U+FFFD."""
    base64: str
    """The new bytes."""
    new_bytes: int
    ended: Ended
    """Why there are no more: all that were asked for, a stop string, or the gate."""
    samples: list[Continuation]
    """All continuations; the first is the one above."""
    passed: bool | None
    """Whether the gate let all of it pass; None without a gate."""
    reasons: list[str]
    """Why it did not."""
    queued: str | None
    """Item in the review queue that holds what was refused."""
    seconds: float


class LongRequest(DataRequest, NewestRun):
    """A sequence that may be longer than the context."""

    ctx_bits: Annotated[int, Field(ge=1, le=1 << 32)] | None = None
    """Bits per window; by default the whole context."""
    overlap_bits: Annotated[int, Field(ge=0, le=1 << 32)] | None = None
    """Bits that windows begin with as context alone; by default half a window."""


class Window(Response):
    """Telemetry of one window."""

    readings: dict[str, float | None]


class LongInferred(Response):
    """The likeliest next bit after each bit, and telemetry by window."""

    run: str
    bits: int
    predicted_base64: str
    """Eight predictions to a byte: after each bit of the data the likeliest next one."""
    right: float | None
    """Share of the bits that were predicted right."""
    windows: list[Window]


class ScoreRequest(DataRequest, NewestRun):
    """Data to score."""

    window_bytes: Annotated[int, Field(ge=1, le=1 << 30)] | None = None
    """Bytes per window; by default the whole context."""
    overlap_bytes: Annotated[int, Field(ge=0, le=1 << 30)] | None = None
    """Bytes of context that windows begin with; by default half a window."""
    surprisals: bool = False
    """Also tell the surprisal of each byte."""


class Scored(Response):
    """What a model thinks of some data."""

    run: str
    bytes: int
    bits_per_byte: float
    """Mean surprisal, every byte counted."""
    window_bytes: int
    overlap_bytes: int
    surprisals: list[float] | None
    """Bits of information in each byte; of the first 65,536."""


class LookRequest(DataRequest, NewestRun):
    """Data to look at, at most 128 bytes of it."""

    layer: Annotated[int, Field(ge=0, le=1023)] | None = None
    """Layer whose attention is shown; by default the last one."""


class LookedAt(Response):
    """The inside of one pass over some data."""

    run: str
    bytes: int
    bit_surprisals: list[list[float]]
    """For each byte, the bits of information in each of its bits."""
    readings: dict[str, float | None]
    """K, C and S of the data and of the predictions."""
    attention_entropy: list[list[float]]
    """Bits, by layer and head."""
    layer: int
    attention: list[list[list[float]]]
    """By head: row i says what position i looks at; position 0 is the start, the others have read
    one patch more each."""


@direct("POST", "/infer", lane="compute")
def infer(engine: Engine, request: InferRequest) -> Inferred:
    """Continue a prompt; under the model's gate if asked."""
    run, began = engine.run_or_newest(request.run), time.monotonic()
    with engine.models.computing(run) as model:
        facts: dict[str, Any] = {"passed": None, "reasons": [], "queued": None}
        if request.gate:
            made, facts = _guarded(engine, run, model, request)
        else:
            made = model.sample(
                request.prompt_bytes(),
                request.new_bytes,
                sampling=request.sampling,
                seed=request.seed,
                samples=request.samples,
                stop=request.stops(),
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
        seconds=time.monotonic() - began,
        **samples[0].model_dump(),
        **facts,
    )


def _guarded(
    engine: Engine,
    run: RunFolder,
    model: BitTransformerLM,
    request: InferRequest,
) -> tuple[list[Sample], dict[str, Any]]:
    prompt = bits_of(model, request.prompt_bytes())
    gate = SafetyGate.from_pretrained(run.path)
    if gate is None:
        raise ConfigError(
            f"{run.path.name} holds no calibrated gate; train with more held-out data, or ask "
            "without gate"
        )
    stream = guarded_stream(
        model.network,
        prompt,
        request.new_bytes * model.config.bits_per_byte,
        request.sampling,
        gate,
        seeded(request.seed),
        stop=request.stops(),
    )
    new = np.concatenate([np.zeros(0, np.uint8), *stream])
    verdict, queued = stream.verdict, None
    if not verdict.passed and request.queue:
        withheld = torch.from_numpy(stream.withheld)
        item = held_back(prompt[0], withheld, verdict, parity=model.config.parity)
        queued = ReviewQueue(engine.workspace.review).put(item)
    facts = {"passed": verdict.passed, "reasons": list(verdict.reasons), "queued": queued}
    assert stream.ended is not None
    return [Sample(whole_bytes(model, new), stream.ended)], facts


@direct("POST", "/infer_long", lane="compute")
def infer_long(engine: Engine, request: LongRequest) -> LongInferred:
    """Read a sequence of any length window by window: the likeliest next bit after each of its
    bits, and telemetry of each window."""
    run = engine.run_or_newest(request.run)
    data = request.read(engine.workspace, _MOST_LONG)
    with engine.models.computing(run) as shared:
        # Telemetry listens to a network, and must hear no other request.
        model = copy.deepcopy(shared)
        bits = bits_of(model, data)[0]
        _require_few_windows(model, len(bits), request)
        predicted, telemetry = infer_long_sequence(
            model, bits, ctx_bits=request.ctx_bits, overlap_bits=request.overlap_bits
        )
    right = (predicted[:-1] == bits[1:]).float().mean().item() if len(bits) > 1 else None
    return LongInferred(
        run=run.path.name,
        bits=len(bits),
        predicted_base64=to_base64(np.packbits(predicted.numpy()).tobytes()),
        right=right,
        windows=[Window(readings=_means(window)) for window in telemetry],
    )


def _require_few_windows(model: BitTransformerLM, bits: int, request: LongRequest) -> None:
    """Telemetry of a window takes some milliseconds, and somebody waits for it."""
    window = request.ctx_bits or model.config.max_seq_len
    overlap = window // 2 if request.overlap_bits is None else request.overlap_bits
    windows = -(-bits // max(window - overlap, 1))
    if windows > _MOST_WINDOWS:
        raise TooLargeError(
            f"{bits:,} bits are {windows:,} windows, and at most {_MOST_WINDOWS:,} are read while "
            "a request waits; give fewer bytes, or larger windows with less overlap"
        )


@direct("POST", "/score", lane="compute")
def score(engine: Engine, request: ScoreRequest) -> Scored:
    """Bits per byte of some data under a model, every byte counted."""
    run = engine.run_or_newest(request.run)
    data = request.read(engine.workspace, _MOST_SCORED)
    with engine.models.computing(run) as model:
        found = model.score(
            data, window_bytes=request.window_bytes, overlap_bytes=request.overlap_bytes
        )
    surprisals = found.surprisal[:_MOST_SURPRISALS].tolist() if request.surprisals else None
    return Scored(
        run=run.path.name,
        bytes=len(data),
        bits_per_byte=found.bits_per_byte,
        window_bytes=found.window_bytes,
        overlap_bytes=found.overlap_bytes,
        surprisals=surprisals,
    )


@direct("POST", "/look", lane="compute")
def look(engine: Engine, request: LookRequest) -> LookedAt:
    """Look inside one pass over some data: attention, its entropy, K, C, S, and the surprisal of
    each bit."""
    run = engine.run_or_newest(request.run)
    data = request.read(engine.workspace, _MOST_LOOKED_AT)
    with engine.models.computing(run) as shared:
        model = copy.deepcopy(shared)
        layers = model.config.num_layers
        layer = layers - 1 if request.layer is None else request.layer
        if layer >= layers:
            raise ConfigError(f"layer must be at most {layers - 1}, got {layer}")
        bits = bits_of(model, data)
        if bits.shape[1] > model.config.max_seq_len:
            raise ConfigError(
                f"the context holds {model.config.max_seq_len} bits, got {bits.shape[1]}; give "
                "fewer bytes"
            )
        surprisals = -model.log2_likelihood(bits)[0]
        with Probe(model.network) as probe:
            ones = bit_logits(model.network, functional.pad(bits, (0, 1)))
        readings = pass_readings(
            bits, ones[:, :-1], probe, symbol_bits=model.config.bits_per_byte, maps=True
        )
        return LookedAt(
            run=run.path.name,
            bytes=len(data),
            bit_surprisals=surprisals.reshape(len(data), -1).tolist(),
            readings=_means(readings),
            attention_entropy=readings["attention_entropy"][0].tolist(),
            layer=layer,
            attention=[
                [[round(weight, 4) for weight in row] for row in head]
                for head in readings["attention_maps"][0, layer].tolist()
            ],
        )


def bits_of(model: BitTransformerLM, content: bytes) -> torch.Tensor:
    """Bytes as the model reads them, (1, T)."""
    return torch.from_numpy(bytes_to_bits(content, parity=model.config.parity))[None]


def whole_bytes(model: BitTransformerLM, bits: np.ndarray) -> bytes:
    """The whole bytes of some bits."""
    width = model.config.bits_per_byte
    return bits_to_bytes(bits[: len(bits) // width * width], parity=model.config.parity)


def _means(readings: object) -> dict[str, float | None]:
    """Readings of one sequence that are one number each."""
    names = ("negentropy", "lz_complexity")
    single = [f"{name}_{what}" for name in names for what in ("input", "logits")]
    single += ["symbiosis_kl", "symbiosis_score", "attention_entropy_mean"]
    found = {name: float(readings[name].mean()) for name in single}  # type: ignore[index]
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


OPERATIONS = (infer, infer_long, score, look)
