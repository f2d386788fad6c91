"""What `generate` is told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bit_transformer.cli.streams import argument_bytes
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import stop_strings, unescaped


@dataclass(frozen=True)
class GenerateArguments:
    """Continue a prompt with a trained model, printing as it goes.

    A pipe or a file is given the very bytes; on a terminal control characters and what is no UTF-8
    are escaped.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder, checkpoint folder or exported model."""
    prompt: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Bytes to continue, taken as they are typed; without any, the sample starts from nothing."""
    prompt_file: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """File whose bytes to continue, of any length; - is standard input, ./- a file of that name."""
    new_bytes: int = 400
    """Bytes to add at most."""
    stop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT")] = ()
    r"""End before this text comes in the new bytes; give it again for several. \n, \r, \t, \0, \xHH
    and \\ stand for a line break, a return, a tab, a zero, any byte and a backslash."""
    samples: int = 1
    """How many continuations; the first is the same however many there are."""
    seed: int = 0
    """The same seed gives the same samples: a whole number from 0 to 2^63 - 1."""
    raw: bool = False
    """Write the new bytes alone, without the prompt, and as they are on a terminal too."""
    json: bool = False
    """Print prompt and samples as JSON, and for each why it ended: length, stop or gate."""
    gate: bool = False
    """Cut the output at the first stretch that the gate calibrated with the model refuses."""
    queue: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """With --gate: folder of the review queue that refused output goes to."""
    watch: bool = False
    """Show a line for each byte: surprisal, K, C, S, T and the likeliest alternatives."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def stops(self) -> tuple[bytes, ...]:
        """The stop strings as bytes; `ConfigError` for what is none."""
        meant = [unescaped(argument_bytes(word)) for word in self.stop]
        return stop_strings(meant, valid_utf8=self.sampling.valid_utf8)
