"""Models with smaller weights."""

from typing import Literal

from bit_transformer.lm import BitTransformerLM
from bit_transformer.quantization import quantized, weight_bytes
from bit_transformer.server.jobs.work import Work
from bit_transformer.server.operations.registry import Engine, Prepared, job
from bit_transformer.server.schemas import Name, Request, Response


class QuantizeRequest(Request):
    """A model to make smaller."""

    run: Name
    """Run or model to begin with."""
    out: Name
    """Name of the new model."""
    to: Literal["int8", "int4"] = "int8"
    """int4 keeps the 4 bits that a model was trained in, and rounds one that was not."""
    file: Name | None = None
    """Uploaded file to measure the loss on."""


class Quantized(Response):
    """A smaller model, for inference."""

    out: str
    bytes_before: int
    bytes_after: int
    bits_per_byte_before: float | None
    """Of the file, where one was given."""
    bits_per_byte_after: float | None


def _prepare(engine: Engine, request: QuantizeRequest) -> Prepared:
    engine.models.require_checkpoint(engine.run(request.run))
    engine.workspace.new_run(request.out)
    if request.file is not None:
        engine.workspace.file(request.file)
    return Prepared(request, writes=request.out)


@job("/quantize", prepare=_prepare)
def quantize(work: Work, request: QuantizeRequest) -> Quantized:
    """Make a model with weights of 8 or 4 bits, for inference."""
    model = BitTransformerLM.from_pretrained(work.workspace.run(request.run).path)
    smaller = quantized(model, request.to)
    before = after = None
    if request.file is not None:
        data = work.workspace.file(request.file).read_bytes()
        before = model.score(data).bits_per_byte
        work.give_way()
        after = smaller.score(data).bits_per_byte
    work.give_way()
    smaller.save_pretrained(work.workspace.new_run(request.out).path)
    return Quantized(
        out=request.out,
        bytes_before=weight_bytes(model),
        bytes_after=weight_bytes(smaller),
        bits_per_byte_before=before,
        bits_per_byte_after=after,
    )


OPERATIONS = (quantize,)
