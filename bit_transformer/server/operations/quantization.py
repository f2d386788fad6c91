"""Makes models with smaller weights."""

from typing import Literal

from bit_transformer.lm import BitTransformerLM
from bit_transformer.quantization import quantized, weight_bytes
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.operations.registry import Engine, Prepared, job
from bit_transformer.server.schemas import Name, Request, Response


class QuantizeRequest(Request):
    """A model to quantize."""

    run: Name
    """Run or model to quantize."""
    out: Name
    """Name of the new model."""
    to: Literal["int8", "int4"] = "int8"
    """Format of the weights. int4 is exact for a model that was trained in 4 bits, and rounds the
    weights of any other model."""
    file: Name | None = None
    """Uploaded file on which to measure bits per byte before and after."""


class Quantized(Response):
    """The quantized model, which is for inference only."""

    out: str
    bytes_before: int
    bytes_after: int
    bits_per_byte_before: float | None
    """Bits per byte of the file, if one was given."""
    bits_per_byte_after: float | None


def _prepare(engine: Engine, request: QuantizeRequest) -> Prepared:
    engine.models.require_checkpoint(engine.run(request.run))
    engine.workspace.new_run(request.out)
    if request.file is not None:
        engine.workspace.file(request.file)
    return Prepared(request, writes=request.out)


@job("/quantize", prepare=_prepare)
def quantize(work: Work, request: QuantizeRequest) -> Quantized:
    """Make a model with weights of 8 or 4 bits, for inference only."""
    model = BitTransformerLM.from_pretrained(work.workspace.run(request.run).path)
    smaller = quantized(model, request.to)
    before = after = None
    if request.file is not None:
        data = work.workspace.file(request.file).read_bytes()
        before = model.score(data).bits_per_byte
        work.raise_if_stopped()
        after = smaller.score(data).bits_per_byte
    work.raise_if_stopped()
    smaller.save_pretrained(work.workspace.new_run(request.out).path)
    return Quantized(
        out=request.out,
        bytes_before=weight_bytes(model),
        bytes_after=weight_bytes(smaller),
        bits_per_byte_before=before,
        bits_per_byte_after=after,
    )


OPERATIONS = (quantize,)
