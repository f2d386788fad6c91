"""A prompt in a request, and how to go on from it."""

from typing import Annotated

from pydantic import Field, model_validator

from bit_transformer.errors import ConfigError
from bit_transformer.inference.sampling_config import SamplingConfig
from bit_transformer.inference.stop import MOST_STOP_BYTES, MOST_STOP_STRINGS, stop_strings
from bit_transformer.server.data_request import decode, encode
from bit_transformer.server.schemas import NewestRun, Seed, Text
from bit_transformer.server.settings import MOST_NEW_BYTES

StopText = Annotated[str, Field(min_length=1, max_length=2 * MOST_STOP_BYTES)]
"""In base64 it is longer than the bytes it stands for."""


class PromptRequest(NewestRun):
    """A prompt and how to go on."""

    prompt: Text = ""
    """Text to continue."""
    prompt_base64: Text | None = None
    """Bytes to continue, instead of a text."""
    new_bytes: Annotated[int, Field(ge=1, le=MOST_NEW_BYTES)] = 200
    """Bytes to add."""
    sampling: SamplingConfig = SamplingConfig()
    """How patches are drawn."""
    seed: Seed = 0
    """The same seed gives the same bytes."""
    stop: Annotated[list[StopText], Field(max_length=MOST_STOP_STRINGS)] = Field(
        default_factory=list
    )
    """End before the first of these texts that comes in the new bytes."""
    stop_base64: Annotated[list[StopText], Field(max_length=MOST_STOP_STRINGS)] = Field(
        default_factory=list
    )
    """Stop strings that are no text."""

    @model_validator(mode="after")
    def _decodable(self) -> "PromptRequest":
        self.prompt_bytes()
        self.stops()
        return self

    def stops(self) -> tuple[bytes, ...]:
        """The stop strings; raises `ConfigError` for what is none."""
        strings = [encode(text) for text in self.stop]
        strings += [decode(text) for text in self.stop_base64]
        return stop_strings(strings, valid_utf8=self.sampling.valid_utf8)

    def prompt_bytes(self) -> bytes:
        """The prompt; raises `ConfigError` for what cannot be decoded."""
        if self.prompt_base64 is None:
            return encode(self.prompt)
        if self.prompt:
            raise ConfigError("prompt and prompt_base64 were both given; choose one")
        return decode(self.prompt_base64)
