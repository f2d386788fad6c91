"""The part of `generate` that needs a model: draw bytes and print them in the chosen form."""

import base64
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from bit_transformer.bits.codec import patch_text
from bit_transformer.bits.tensor import bits_of
from bit_transformer.cli.generate_arguments import GenerateArguments
from bit_transformer.cli.mixing_arguments import mixed_source
from bit_transformer.cli.model_arguments import load_model
from bit_transformer.cli.output import print_json
from bit_transformer.cli.streams import ByteOutput, shown_name
from bit_transformer.errors import GateError
from bit_transformer.inference.generate import stream_bits
from bit_transformer.inference.painting import MIXED
from bit_transformer.inference.predictor import Source
from bit_transformer.inference.samples import Sample, draw_samples, in_bytes
from bit_transformer.inference.sampling import seeded
from bit_transformer.inference.watch import WatchedStretch, watch
from bit_transformer.safety.gate import UNCALIBRATED, SafetyGate
from bit_transformer.safety.guard import GuardedStream, guarded_stream
from bit_transformer.safety.review import ReviewQueue
from bit_transformer.safety.sampling import held_back, refusal

_ALTERNATIVES = 3
"""Most likely values that --watch shows for each patch."""
_BAR_WIDTH = 12
"""Width of the surprisal bar of --watch, one mark per bit."""


def continue_prompt(arguments: GenerateArguments, prompt: bytes) -> None:
    """Load the model, continue the prompt and print the result."""
    source = _source(arguments, prompt)
    if arguments.watch:
        _watch(source, arguments, prompt)
    elif arguments.gate:
        _guarded(source, arguments, prompt)
    elif arguments.json:
        mix = arguments.mixing.on
        _print_document(prompt, list(_samples(source, arguments, prompt)), mix=mix)
    elif arguments.samples == 1:
        _stream(source, arguments, prompt)
    else:
        _print_samples(source, arguments, prompt)


def _source(arguments: GenerateArguments, prompt: bytes) -> Source:
    """Return the model, mixed with a context mixer if the arguments ask for it."""
    model = load_model(arguments.run, arguments.device)
    if not arguments.mixing.on:
        return model.network
    length = len(prompt) + arguments.new_bytes
    return mixed_source(model, arguments.run, arguments.mixing, sample=prompt, data_bytes=length)


def _bits(source: Source, prompt: bytes) -> torch.Tensor:
    return bits_of(prompt, parity=source.config.parity)


def _new_bits(source: Source, arguments: GenerateArguments) -> int:
    return arguments.new_bytes * source.config.bits_per_byte


def _samples(source: Source, arguments: GenerateArguments, prompt: bytes) -> Iterable[Sample]:
    return draw_samples(
        source,
        prompt,
        arguments.new_bytes,
        arguments.sampling,
        seed=arguments.seed,
        samples=arguments.samples,
        stop=arguments.stops(),
    )


def _stream(source: Source, arguments: GenerateArguments, prompt: bytes) -> None:
    stream = stream_bits(
        source,
        _bits(source, prompt),
        _new_bits(source, arguments),
        arguments.sampling,
        seeded(arguments.seed),
        stop=arguments.stops(),
    )
    _print_stream(source, arguments, prompt, (bits[0].cpu().numpy() for bits in stream))


def _guarded(source: Source, arguments: GenerateArguments, prompt: bytes) -> None:
    gate = SafetyGate.from_pretrained(arguments.run)
    if gate is None:
        print(f"bit-transformer: {shown_name(arguments.run)}: {UNCALIBRATED}", file=sys.stderr)
        gate = SafetyGate()
    stream = guarded_stream(
        source,
        _bits(source, prompt),
        _new_bits(source, arguments),
        arguments.sampling,
        gate,
        seeded(arguments.seed),
        stop=arguments.stops(),
    )
    if arguments.json:
        content = b"".join(in_bytes(stream, parity=source.config.parity))
        assert stream.ended is not None
        samples, reasons = [Sample(content, stream.ended)], stream.verdict.reasons
        _print_document(prompt, samples, reasons=reasons, mix=arguments.mixing.on)
    else:
        _print_stream(source, arguments, prompt, stream)
    if not stream.verdict.passed:
        raise GateError(refusal(stream.verdict) + _queued(source, arguments, prompt, stream))


def _queued(
    source: Source, arguments: GenerateArguments, prompt: bytes, stream: GuardedStream
) -> str:
    """Put refused output into the review queue; return the end of the message that says where."""
    if arguments.queue is None:
        return ""
    withheld = torch.from_numpy(stream.withheld)
    parity = source.config.parity
    item = held_back(_bits(source, prompt)[0], withheld, stream.verdict, parity=parity)
    return f"; {ReviewQueue(arguments.queue).put(item)} waits in {shown_name(arguments.queue)}"


def _print_stream(
    source: Source,
    arguments: GenerateArguments,
    prompt: bytes,
    stream: Iterable[UInt8[np.ndarray, " n"]],
) -> None:
    output = ByteOutput(raw=arguments.raw)
    if not arguments.raw:
        output.write(prompt)
    for content in in_bytes(stream, parity=source.config.parity):
        output.write(content)
    output.end()


def _print_samples(source: Source, arguments: GenerateArguments, prompt: bytes) -> None:
    output = ByteOutput(raw=arguments.raw)
    for index, sample in enumerate(_samples(source, arguments, prompt)):
        if arguments.raw:
            output.write(sample.content)
        else:
            heading = f"--- sample {index + 1} of {arguments.samples}\n".encode()
            output.write(heading + prompt + sample.content + b"\n")


def _print_document(prompt: bytes, samples: list[Sample], **facts: Any) -> None:
    """Print JSON: text with U+FFFD in place of invalid UTF-8, and the exact bytes in base64."""
    print_json(
        {
            "prompt": prompt.decode(errors="replace"),
            "prompt_base64": base64.b64encode(prompt).decode(),
            "samples": [sample.content.decode(errors="replace") for sample in samples],
            "samples_base64": [base64.b64encode(sample.content).decode() for sample in samples],
            "ended": [sample.ended for sample in samples],
            **facts,
        }
    )


def _watch(source: Source, arguments: GenerateArguments, prompt: bytes) -> None:
    """Print a line for each patch as it is drawn."""
    patch_size = source.config.patch_size
    columns = f"{'new':>5}  {'bits':<{patch_size}}  {'surprisal':<{_BAR_WIDTH + 5}}"
    if arguments.mixing.on:
        print(f"All figures are {MIXED}.")
    print(f"{columns}    K     C     S     T   instead of")
    stretches = watch(
        source,
        _bits(source, prompt),
        _new_bits(source, arguments),
        arguments.sampling,
        seeded(arguments.seed),
        stop=arguments.stops(),
    )
    for stretch in stretches:
        print(_watch_line(stretch, patch_size), flush=True)


def _watch_line(stretch: WatchedStretch, patch_size: int) -> str:
    bits = "".join(map(str, stretch.bits))
    # The first patch is incomplete if the prompt ended inside it; then it has no value to show.
    value = int(bits, 2) if len(bits) == patch_size else None
    surprisal = float(stretch.surprisal.sum())
    bar = ("#" * min(round(surprisal), _BAR_WIDTH)).ljust(_BAR_WIDTH)
    metrics = ""
    if len(stretch.readings):
        newest = stretch.readings.at(-1)
        metrics = "  ".join(f"{newest[name]:.2f}" for name in ("k", "c", "s", "t"))
    others = "  ".join(
        f"{patch_text(other, patch_size, quoted=True)} {p:.0%}"
        for other, p in stretch.alternatives(_ALTERNATIVES)[0]
        if other != value
    )
    new = "" if value is None else patch_text(value, patch_size, quoted=True)
    return f"{new:>5}  {bits:<{patch_size}}  {surprisal:4.1f} {bar}  {metrics:<22}  {others}"
