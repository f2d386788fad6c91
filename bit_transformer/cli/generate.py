"""Continue a prompt."""

import codecs
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from bit_transformer.bits.codec import bits_to_bytes, bytes_to_bits
from bit_transformer.cli.output import parse, print_json
from bit_transformer.errors import ConfigError, SourceError
from bit_transformer.inference.generate import generate_bits, stream_bits
from bit_transformer.inference.sampling import SamplingConfig
from bit_transformer.lm import BitTransformerLM


@dataclass(frozen=True)
class GenerateArguments:
    """Continue a prompt with a trained model, printing as it goes."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, checkpoint folder or exported model."""
    prompt: str | None = None
    """Text to continue; without one, the sample starts from nothing."""
    prompt_file: Path | None = None
    """File whose bytes to continue; its end, when it is longer than the context."""
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
    prompt = _prompt(arguments, model)
    if arguments.samples == 1 and not arguments.json:
        _stream(model, arguments, prompt)
    else:
        _print_samples(model, arguments, prompt)


def _prompt(arguments: GenerateArguments, model: BitTransformerLM) -> bytes:
    if arguments.prompt_file is None:
        return (arguments.prompt or "").encode()
    if arguments.prompt is not None:
        raise ConfigError("--prompt and --prompt-file were both given; choose one")
    try:
        content = arguments.prompt_file.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {arguments.prompt_file}: {error.strerror}") from error
    return content[-(model.config.max_seq_len // model.config.bits_per_byte) :]


def _bits(model: BitTransformerLM, prompt: bytes, batch: int) -> torch.Tensor:
    row = torch.from_numpy(bytes_to_bits(prompt, parity=model.config.parity))
    return row.expand(batch, -1)


def _new_bits(model: BitTransformerLM, arguments: GenerateArguments) -> int:
    return arguments.new_bytes * model.config.bits_per_byte


def _stream(model: BitTransformerLM, arguments: GenerateArguments, prompt: bytes) -> None:
    generator = torch.Generator().manual_seed(arguments.seed)
    stream = stream_bits(
        model.network,
        _bits(model, prompt, 1),
        _new_bits(model, arguments),
        arguments.sampling,
        generator,
    )
    text = codecs.getincrementaldecoder("utf-8")(errors="replace")
    if not arguments.raw:
        sys.stdout.write(text.decode(prompt))
    pending, width = np.zeros(0, dtype=np.uint8), model.config.bits_per_byte
    for bits in stream:
        pending = np.concatenate((pending, bits[0].numpy()))
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
