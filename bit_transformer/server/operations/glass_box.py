"""Generation as a glass box: each new patch with everything that is known about it."""

import math
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from bit_transformer.bits.codec import patch_text
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.watch import WatchedStretch, watch
from bit_transformer.server.operations.inference import bits_of
from bit_transformer.server.operations.prompt_request import PromptRequest
from bit_transformer.server.operations.registry import Engine, stream
from bit_transformer.server.schemas import Response


class GenerateRequest(PromptRequest):
    """A prompt to continue under observation."""

    alternatives: Annotated[int, Field(ge=0, le=64)] = 4
    """Likeliest values to tell beside each drawn one."""


class Alternative(Response):
    """Another value that a patch could have had."""

    value: int
    shown: str
    """As a character where it is one, else as a number."""
    probability: float


class GlassPatch(Response):
    """One new patch, a byte by default."""

    done: int
    """New bits so far, this patch included."""
    total: int
    """New bits there will be, unless a stop string comes."""
    bits: str
    """The new bits, zeros and ones."""
    value: int | None
    """Of a whole patch."""
    shown: str
    """As a character where it is one, else as a number; empty for a part of a patch."""
    surprisal: float
    """Bits of information in the patch."""
    bit_surprisals: list[float | None]
    """Bits of information in each of its bits."""
    p_ones: list[float]
    """Probability of a one that the model gave each bit."""
    readings: dict[str, float | None]
    """K, C, S, T and U of what was generated lately; empty for a part of a patch."""
    alternatives: list[Alternative]
    """Likeliest values, best first, the drawn one among them."""


@stream("/generate")
def generate(engine: Engine, request: GenerateRequest) -> Iterator[GlassPatch]:
    """Continue a prompt, patch by patch: surprisal, K, C, S and the alternatives of each."""
    run = engine.run_or_newest(request.run)
    with engine.models.computing(run) as model:
        total = request.new_bytes * model.config.bits_per_byte
        stretches = watch(
            model.network,
            bits_of(model, request.prompt_bytes()),
            total,
            request.sampling,
            seeded(request.seed),
            stop=request.stops(),
        )
        done = 0
        for stretch in stretches:
            done += len(stretch.bits)
            yield _patch(stretch, model.config.patch_size, done, total, request.alternatives)


def _patch(
    stretch: WatchedStretch, patch_size: int, done: int, total: int, count: int
) -> GlassPatch:
    bits = "".join(map(str, stretch.bits))
    value = int(bits, 2) if len(bits) == patch_size else None
    readings: dict[str, float | None] = {}
    if len(stretch.readings):
        found = stretch.readings.at(-1)
        readings = {name: _number(found[name]) for name in ("k", "c", "s", "t", "u")}
    (others,) = stretch.alternatives(count) if count else ([],)
    surprisals = stretch.surprisal
    return GlassPatch(
        done=done,
        total=total,
        bits=bits,
        value=value,
        shown="" if value is None else patch_text(value, patch_size),
        surprisal=float(surprisals.sum()),
        bit_surprisals=[_number(float(one)) for one in surprisals],
        p_ones=stretch.p_ones.tolist(),
        readings=readings,
        alternatives=[
            Alternative(value=other, shown=patch_text(other, patch_size), probability=p)
            for other, p in others
        ],
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


OPERATIONS = (generate,)
