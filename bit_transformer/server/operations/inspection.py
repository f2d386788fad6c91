"""Read given data with a model: predictions and telemetry by window, bits per byte, one pass."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from torch.nn import functional

from bit_transformer.bits.tensor import bits_of
from bit_transformer.errors import ConfigError, TooLargeError
from bit_transformer.inference.score import Score
from bit_transformer.lm import BitTransformerLM, infer_long_sequence
from bit_transformer.model.transformer import bit_logits
from bit_transformer.server.data_request import DataRequest, to_base64
from bit_transformer.server.mixing import MixRequest
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.schemas import NewestRun, Response
from bit_transformer.telemetry.forward_pass import pass_metrics
from bit_transformer.telemetry.probe import Probe
from bit_transformer.training.run_folder import RunFolder

_MAX_SCORED_BYTES = 4 << 20
_MAX_LONG_BYTES = 1 << 18
_MAX_WINDOWS = 1024
_MAX_SURPRISALS = 1 << 16
_MAX_LOOK_BYTES = 128
"""The attention map of n bytes has n * n entries, and they are sent as JSON."""


class LongRequest(DataRequest, NewestRun):
    """A sequence that may be longer than the context."""

    ctx_bits: Annotated[int, Field(ge=1, le=1 << 32)] | None = None
    """Bits per window; by default the whole context."""
    overlap_bits: Annotated[int, Field(ge=0, le=1 << 32)] | None = None
    """Bits at the beginning of a window that are context only; by default half a window."""


class Window(Response):
    """Telemetry of one window."""

    readings: dict[str, float | None]


class LongInferred(Response):
    """The likeliest next bit after each bit, and telemetry of each window."""

    run: str
    bits: int
    predicted_base64: str
    """The likeliest next bit after each bit of the data, eight to a byte, in base64."""
    right: float | None
    """Share of the bits that were predicted correctly."""
    windows: list[Window]


class ScoreRequest(DataRequest, NewestRun, MixRequest):
    """Data to score."""

    window_bytes: Annotated[int, Field(ge=1, le=1 << 30)] | None = None
    """Bytes per window; by default the whole context."""
    overlap_bytes: Annotated[int, Field(ge=0, le=1 << 30)] | None = None
    """Bytes at the beginning of a window that are context only; by default half a window."""
    surprisals: bool = False
    """Also return the surprisal of each byte."""
    adapt: Literal["head", "memory"] | None = None
    """Part of a copy of the model that learns while it reads: the head, or the head and the context
    memory, which takes several times as long."""

    @model_validator(mode="after")
    def _one_way_to_learn(self) -> "ScoreRequest":
        if self.adapt and self.mixes:
            raise ConfigError("adapt and mix are two ways to learn while reading; leave one out")
        return self


class Scored(Response):
    """The score of some data under a model."""

    run: str
    bytes: int
    bits_per_byte: float
    """Mean surprisal over all bytes. It is static: the figure of the model alone."""
    adaptive_bits_per_byte: float | None
    """Mean surprisal under something that learns from each byte after the byte is scored: a mixer
    beside the model, or a part of the model. None without `mix` and `adapt`. It is not to be
    compared with static figures."""
    window_bytes: int
    overlap_bytes: int
    surprisals: list[float] | None
    """Static surprisal in bits of each of the first 65,536 bytes."""
    adaptive_surprisals: list[float] | None
    """The same for the adaptive figure. None without `mix` and `adapt`."""


class LookRequest(DataRequest, NewestRun):
    """Data to inspect, at most 128 bytes."""

    layer: Annotated[int, Field(ge=0, le=1023)] | None = None
    """Layer whose attention is returned; by default the last one."""


class LookedAt(Response):
    """The inside of one forward pass over some data."""

    run: str
    bytes: int
    bit_surprisals: list[list[float]]
    """Surprisal of each bit of each byte, in bits."""
    readings: dict[str, float | None]
    """K, C and S of the data and of the predictions."""
    attention_entropy: list[list[float]]
    """Mean entropy of the attention in bits, by layer and head."""
    layer: int
    attention: list[list[list[float]]]
    """Attention weights by head. Row i holds the weights of position i. Position 0 is the start,
    and each later position has read one patch more."""


@direct("POST", "/infer_long", lane="compute")
def infer_long(engine: Engine, request: LongRequest) -> LongInferred:
    """Read a sequence of any length in windows. Returns the likeliest next bit after each bit, and
    telemetry of each window."""
    run = engine.run_or_newest(request.run)
    data = request.read(engine.workspace, _MAX_LONG_BYTES)
    with engine.models.observing(run) as model:
        bits = bits_of(data, parity=model.config.parity)[0]
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
        windows=[Window(readings=_scalars(window)) for window in telemetry],
    )


def _require_few_windows(model: BitTransformerLM, bits: int, request: LongRequest) -> None:
    """Raise `TooLargeError` for too many windows: the telemetry of each takes milliseconds."""
    window = request.ctx_bits or model.config.max_seq_len
    overlap = window // 2 if request.overlap_bits is None else request.overlap_bits
    windows = -(-bits // max(window - overlap, 1))
    if windows > _MAX_WINDOWS:
        raise TooLargeError(
            f"a request may have at most {_MAX_WINDOWS:,} windows, and {bits:,} bits are "
            f"{windows:,} of them; send fewer bytes, or use larger windows with less overlap"
        )


@direct("POST", "/score", lane="compute")
def score(engine: Engine, request: ScoreRequest) -> Scored:
    """Compute the bits per byte of some data under a model, over all bytes. With `mix` or `adapt`,
    also an adaptive figure: a context mixer, or a part of the model, learns while it reads."""
    run = engine.run_or_newest(request.run)
    data = request.read(engine.workspace, _MAX_SCORED_BYTES)
    with engine.models.computing(run) as model:
        found, adaptive = _scores(engine, run, model, request, data)
    return Scored(
        run=run.path.name,
        bytes=len(data),
        bits_per_byte=found.bits_per_byte,
        window_bytes=found.window_bytes,
        overlap_bytes=found.overlap_bytes,
        surprisals=_listed(found) if request.surprisals else None,
        adaptive_bits_per_byte=None if adaptive is None else adaptive.bits_per_byte,
        adaptive_surprisals=_listed(adaptive) if adaptive and request.surprisals else None,
    )


def _scores(
    engine: Engine, run: RunFolder, model: BitTransformerLM, request: ScoreRequest, data: bytes
) -> tuple[Score, Score | None]:
    """Return the static score and, if the request asks for one, the adaptive score."""
    window, overlap = request.window_bytes, request.overlap_bytes
    if request.adapt is not None:
        return model.adaptive_score(
            data, learns=request.adapt, window_bytes=window, overlap_bytes=overlap
        )
    if not request.mixes:
        return model.score(data, window_bytes=window, overlap_bytes=overlap), None
    mixers = engine.models.mixers
    source = mixers.mixed(run, model, request, sample=data, data_bytes=len(data))
    return source.score(data, window_bytes=window, overlap_bytes=overlap)


def _listed(score: Score) -> list[float]:
    return score.surprisal[:_MAX_SURPRISALS].tolist()


@direct("POST", "/look", lane="compute")
def look(engine: Engine, request: LookRequest) -> LookedAt:
    """Inspect one forward pass over some data: attention and its entropy, K, C, S, and the
    surprisal of each bit."""
    run = engine.run_or_newest(request.run)
    data = request.read(engine.workspace, _MAX_LOOK_BYTES)
    with engine.models.observing(run) as model:
        layers = model.config.num_layers
        layer = layers - 1 if request.layer is None else request.layer
        if layer >= layers:
            raise ConfigError(f"layer must be at most {layers - 1}, got {layer}")
        bits = bits_of(data, parity=model.config.parity)
        if bits.shape[1] > model.config.max_seq_len:
            raise ConfigError(
                f"the data must fit into the context of {model.config.max_seq_len} bits, got "
                f"{bits.shape[1]}; send fewer bytes"
            )
        surprisals = -model.log2_likelihood(bits)[0]
        with Probe(model.network) as probe:
            # One bit more, so that attention includes the position that has read all of the data.
            ones = bit_logits(model.network, functional.pad(bits, (0, 1)))
        readings = pass_metrics(
            bits, ones[:, :-1], probe, symbol_bits=model.config.bits_per_byte, maps=True
        )
        return LookedAt(
            run=run.path.name,
            bytes=len(data),
            bit_surprisals=surprisals.reshape(len(data), -1).tolist(),
            readings=_scalars(readings),
            attention_entropy=readings["attention_entropy"][0].tolist(),
            layer=layer,
            attention=[
                [[round(weight, 4) for weight in row] for row in head]
                for head in readings["attention_maps"][0, layer].tolist()
            ],
        )


def _scalars(readings: object) -> dict[str, float | None]:
    """Return the metrics of one sequence that are single numbers, with None for NaN."""
    names = ("negentropy", "lz_complexity")
    single = [f"{name}_{source}" for name in names for source in ("input", "logits")]
    single += ["symbiosis_kl", "symbiosis_score", "attention_entropy_mean"]
    found = {name: float(readings[name].mean()) for name in single}  # type: ignore[index]
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


OPERATIONS = (infer_long, score, look)
