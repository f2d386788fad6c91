"""Flags of `generate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.arguments import Shown
from bit_transformer.cli.mixing_arguments import SHOWN, MixingArguments
from bit_transformer.cli.model_arguments import DEFAULT_DEVICE, DeviceName, RunName
from bit_transformer.cli.streams import argument_bytes
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import stop_strings, unescaped


@dataclass(frozen=True)
class GenerateArguments:
    """Continue a prompt with a trained model, and print bytes as they are drawn.

    A pipe or a file receives the bytes unchanged. On a terminal, control characters and invalid
    UTF-8 are escaped.
    """

    run: RunName
    prompt: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Bytes to continue, exactly as typed. Without a prompt, a sample starts from nothing."""
    prompt_file: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """File with the bytes to continue, of any length. - is standard input, ./- a file called -."""
    new_bytes: int = 400
    """Number of bytes to add, at most."""
    stop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT")] = ()
    r"""Stop before this text appears in the new bytes. Repeat the flag for several texts. \n, \r,
    \t, \0, \xHH and \\ mean a line break, a carriage return, a tab, a zero byte, any byte and a
    backslash."""
    samples: int = 1
    """Number of continuations. Sample i is the same for any number."""
    seed: int = 0
    """Random seed, from 0 to 2^63 - 1. The same seed gives the same samples on a CPU."""
    raw: bool = False
    """Write the new bytes without the prompt, and unescaped also on a terminal."""
    json: bool = False
    """Print prompt and samples as JSON, and why each sample ended: length, stop or gate."""
    gate: bool = False
    """Cut the output before the first stretch that the model's safety gate refuses. With --mix, the
    metrics are those of the mixture, and the floors those of the model alone."""
    queue: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """With --gate: folder of the review queue that receives refused output."""
    watch: bool = False
    """Print a line for each byte: surprisal, K, C, S, T and the most likely alternatives. With
    --mix, all of them are adaptive: the mixer learns from each byte after the byte is drawn."""
    device: DeviceName = DEFAULT_DEVICE
    mixing: Annotated[MixingArguments, Shown(*SHOWN)] = field(default_factory=MixingArguments)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def stops(self) -> tuple[bytes, ...]:
        """Return the stop strings as bytes; raise `ConfigError` for an invalid one."""
        strings = [unescaped(argument_bytes(word)) for word in self.stop]
        return stop_strings(strings, valid_utf8=self.sampling.valid_utf8)
