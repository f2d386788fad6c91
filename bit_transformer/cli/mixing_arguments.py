"""--mix and --given: the arguments of commands that may mix a model with a context mixer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from bit_transformer.cli.streams import STANDARD_INPUT, file_bytes
from bit_transformer.errors import ConfigError

if TYPE_CHECKING:
    from bit_transformer.compression.mixed_network import MixedNetwork
    from bit_transformer.lm import BitTransformerLM

SHOWN = ("mix", "given")


@dataclass(frozen=True)
class MixingArguments:
    """Whether a context mixer is mixed with the model, and what it learns first."""

    mix: bool = False
    """Mix the model with a context mixer bit by bit. The mixer begins as the command warm has saved
    it with RUN, otherwise untrained. It learns from each byte after it has predicted the byte."""
    given: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FILE")] = ()
    """File that the mixer learns first. Repeat the flag for several files. It implies --mix."""

    @property
    def on(self) -> bool:
        """Whether a mixer takes part."""
        return self.mix or bool(self.given)

    def check(self, *others: str | None) -> None:
        """Raise `ConfigError` if standard input is named twice, here or among `others`."""
        if [*self.given, *others].count(STANDARD_INPUT) > 1:
            raise ConfigError(
                "standard input can be read only once, and - was given twice; name a file instead"
            )


def mixed_source(
    model: "BitTransformerLM",
    run: str,
    arguments: MixingArguments,
    *,
    sample: bytes = b"",
    data_bytes: int | None = None,
) -> "MixedNetwork":
    """Return the model with a mixer: the saved one of `run`, or an untrained one for data that
    begins with `sample` and has `data_bytes` bytes. It then learns the files of --given.

    Raises `MixerFileError` for a damaged file of the mixer, and `SourceError` for a file that
    cannot be read.
    """
    from bit_transformer.checkpoint.locate import locate_checkpoint
    from bit_transformer.compression.mixed_network import mixed, table_bits_of
    from bit_transformer.compression.mixer_file import load_mixer, mixer_path

    path = mixer_path(locate_checkpoint(run))
    given = b"".join(map(file_bytes, arguments.given))
    total = None if data_bytes is None else len(given) + data_bytes
    return mixed(
        model.network,
        given=given,
        sample=sample,
        table_bits=table_bits_of(total),
        mixer=load_mixer(path) if path.exists() else None,
    )
