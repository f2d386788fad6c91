"""Continue a prompt."""

import codecs
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import UInt8

from bit_transformer.bits.codec import bits_to_bytes, bytes_to_bits
from bit_transformer.cli.glass_box import watch_generation
from bit_transformer.cli.output import parse, print_json
from bit_transformer.errors import ConfigError, GateError, SourceError
from bit_transformer.inference.generate import generate_bits, stream_bits
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.lm import BitTransformerLM
from bit_transformer.safety.gate import SafetyGate
from bit_transformer.safety.guard import guarded_stream
from bit_transformer.safety.review import ReviewQueue
from bit_transformer.safety.sampling import held_back, refusal


@dataclass(frozen=True)
class GenerateArguments:
    """Continue a prompt with a trained model, printing as it goes."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    prompt: str | None = None
    """Text to continue; without one, the sample starts from nothing."""
    prompt_file: Path | None = None
    """File whose bytes to continue, of any length."""
    new_bytes: int = 400
    """Bytes to add."""
    samples: int = 1
    """How many continuations, drawn as one batch."""
    seed: int = 0
    """The same seed gives the same samples."""
    raw: bool = False
    """Write the bytes as they are, prompt left out; for data that is not text."""
    json: bool = False
    """Print prompt and samples as JSON."""
    gate: bool = False
    """Cut the output at the first stretch that the gate calibrated with the model refuses."""
    queue: Path | None = None
    """With --gate: folder of the review queue that refused output goes to."""
    watch: bool = False
    """Show a line for each byte: surprisal, K, C, S, T and the likeliest alternatives."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(GenerateArguments, words, command="generate")
    if arguments.samples < 1 or arguments.new_bytes < 1:
        raise ConfigError(
            f"samples and new-bytes must be at least 1, got {arguments.samples} and "
            f"{arguments.new_bytes}"
        )
    model = BitTransformerLM.from_pretrained(arguments.run)
    prompt = _prompt(arguments)
    if arguments.queue is not None and not arguments.gate:
        raise ConfigError("--queue is for what --gate refuses; give --gate as well")
    if arguments.watch or arguments.gate:
        _check_single(arguments)
    if arguments.watch:
        watch_generation(
            model,
            _bits(model, prompt, 1),
            _new_bits(model, arguments),
            arguments.sampling,
            arguments.seed,
        )
    elif arguments.gate:
        _guarded(model, arguments, prompt)
    elif arguments.samples == 1 and not arguments.json:
        _stream(model, arguments, prompt)
    else:
        _print_samples(model, arguments, prompt)


def _prompt(arguments: GenerateArguments) -> bytes:
    if arguments.prompt_file is None:
        return (arguments.prompt or "").encode()
    if arguments.prompt is not None:
        raise ConfigError("--prompt and --prompt-file were both given; choose one")
    try:
        return arguments.prompt_file.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {arguments.prompt_file}: {error.strerror}") from error


def _bits(model: BitTransformerLM, prompt: bytes, batch: int) -> torch.Tensor:
    row = torch.from_numpy(bytes_to_bits(prompt, parity=model.config.parity))
    return row.expand(batch, -1)


def _new_bits(model: BitTransformerLM, arguments: GenerateArguments) -> int:
    return arguments.new_bytes * model.config.bits_per_byte


def _check_single(arguments: GenerateArguments) -> None:
    if arguments.watch and arguments.gate:
        raise ConfigError("--watch and --gate were both given; choose one")
    if arguments.samples != 1 or arguments.json:
        raise ConfigError(
            "--watch and --gate print one sample as it grows; leave out --samples, --json"
        )


def _stream(model: BitTransformerLM, arguments: GenerateArguments, prompt: bytes) -> None:
    stream = stream_bits(
        model.network,
        _bits(model, prompt, 1),
        _new_bits(model, arguments),
        arguments.sampling,
        torch.Generator().manual_seed(arguments.seed),
    )
    _print_stream(model, arguments, prompt, (bits[0].numpy() for bits in stream))


def _guarded(model: BitTransformerLM, arguments: GenerateArguments, prompt: bytes) -> None:
    gate = SafetyGate.from_pretrained(arguments.run)
    if gate is None:
        raise ConfigError(
            f"{arguments.run} holds no calibrated gate; train with more held-out data, or use "
            "SafetyGate in Python with floors of your own"
        )
    bits = _bits(model, prompt, 1)
    stream = guarded_stream(
        model.network,
        bits,
        _new_bits(model, arguments),
        arguments.sampling,
        gate,
        torch.Generator().manual_seed(arguments.seed),
    )
    _print_stream(model, arguments, prompt, stream)
    if stream.verdict.passed:
        return
    where = ""
    if arguments.queue is not None:
        withheld = torch.from_numpy(stream.withheld)
        item = held_back(bits[0], withheld, stream.verdict, parity=model.config.parity)
        where = f"; {ReviewQueue(arguments.queue).put(item)} waits in {arguments.queue}"
    raise GateError(refusal(stream.verdict) + where)


def _print_stream(
    model: BitTransformerLM,
    arguments: GenerateArguments,
    prompt: bytes,
    stream: Iterable[UInt8[np.ndarray, " n"]],
) -> None:
    text = codecs.getincrementaldecoder("utf-8")(errors="replace")
    if not arguments.raw:
        sys.stdout.write(text.decode(prompt))
    pending, width = np.zeros(0, dtype=np.uint8), model.config.bits_per_byte
    for bits in stream:
        pending = np.concatenate((pending, bits))
        whole = len(pending) // width * width
        content = bits_to_bytes(pending[:whole], parity=model.config.parity)
        pending = pending[whole:]
        if arguments.raw:
            sys.stdout.buffer.write(content)
        else:
            sys.stdout.write(text.decode(content))
        sys.stdout.flush()
    if not arguments.raw:
        print(text.decode(b"", final=True))


def _print_samples(model: BitTransformerLM, arguments: GenerateArguments, prompt: bytes) -> None:
    bits = generate_bits(
        model.network,
        _bits(model, prompt, arguments.samples),
        _new_bits(model, arguments),
        arguments.sampling,
        torch.Generator().manual_seed(arguments.seed),
    )
    rows = [bits_to_bytes(row, parity=model.config.parity) for row in bits.numpy()]
    if arguments.json:
        texts = [row[len(prompt) :].decode(errors="replace") for row in rows]
        print_json({"prompt": prompt.decode(errors="replace"), "samples": texts})
        return
    for index, row in enumerate(rows):
        if arguments.raw:
            sys.stdout.buffer.write(row[len(prompt) :])
        else:
            print(f"--- sample {index + 1} of {len(rows)}\n{row.decode(errors='replace')}")
