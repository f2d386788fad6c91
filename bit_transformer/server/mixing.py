"""A context mixer beside a model: what a request says about it, and saved mixers in memory."""

import threading
from collections import OrderedDict
from pathlib import Path

from pydantic import model_validator

from bit_transformer.compression.mixed_network import MixedNetwork, mixed, table_bits_of
from bit_transformer.compression.mixer import Mixer
from bit_transformer.compression.mixer_file import MIXER, load_mixer
from bit_transformer.errors import ConfigError
from bit_transformer.lm import BitTransformerLM
from bit_transformer.server.data_request import decode, encode
from bit_transformer.server.schemas import Request, Text
from bit_transformer.server.settings import Limits
from bit_transformer.training.run_folder import RunFolder

_MAX_TABLE_BITS = 20
"""Largest table of a mixer that begins untrained. Each request has a mixer of its own."""


class MixRequest(Request):
    """Whether a context mixer is mixed with the model, and what it learns first."""

    mix: bool = False
    """Mix the model with a context mixer bit by bit. The mixer begins as `warm` has saved it with
    the run, otherwise untrained. It learns from each byte after it has predicted the byte, so the
    figures are adaptive."""
    given: Text | None = None
    """Text that the mixer learns first. It implies `mix`."""
    given_base64: Text | None = None
    """Bytes that the mixer learns first, instead of a text."""

    @model_validator(mode="after")
    def _given_is_decodable(self) -> "MixRequest":
        self.given_bytes()
        return self

    def given_bytes(self) -> bytes:
        """Return the bytes to learn first; raises `ConfigError` if they cannot be decoded."""
        if self.given_base64 is None:
            return encode(self.given)
        if self.given is not None:
            raise ConfigError("given and given_base64 were both given; choose one")
        return decode(self.given_base64)

    @property
    def mixes(self) -> bool:
        """Whether a mixer takes part."""
        return self.mix or self.given is not None or self.given_base64 is not None


class MixerStore:
    """The saved mixers of the runs used last, in memory. Nobody changes them: every sequence has a
    copy."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._loaded: OrderedDict[tuple[Path, int, int], Mixer] = OrderedDict()
        self._guard = threading.Lock()

    def saved(self, run: RunFolder) -> Mixer | None:
        """Return the saved mixer of a run, or None without one.

        Raises `ConfigError` if it is too large, and `MixerFileError` if it is damaged.
        """
        path = run.path / MIXER
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        if status.st_size > self._limits.mixer_bytes:
            raise ConfigError(
                f"the saved mixer of a run must have at most {self._limits.mixer_bytes:,} bytes "
                f"(--mixer-bytes), got {status.st_size:,}; warm it again with smaller table_bits "
                "or less data"
            )
        # Time and inode tell a file from a later one at the same path.
        key = (path, status.st_mtime_ns, status.st_ino)
        with self._guard:
            if key not in self._loaded:
                for stale in [one for one in self._loaded if one[0] == path]:
                    del self._loaded[stale]
                while len(self._loaded) >= self._limits.models:
                    self._loaded.popitem(last=False)
                self._loaded[key] = load_mixer(path)
            self._loaded.move_to_end(key)
            return self._loaded[key]

    def mixed(
        self,
        run: RunFolder,
        model: BitTransformerLM,
        request: MixRequest,
        *,
        sample: bytes,
        data_bytes: int,
    ) -> MixedNetwork:
        """Return the model of a run with a mixer for data that begins with `sample`. Raises the
        errors of `saved`."""
        given = request.given_bytes()
        return mixed(
            model.network,
            given=given,
            sample=sample,
            table_bits=min(table_bits_of(len(given) + data_bytes), _MAX_TABLE_BITS),
            mixer=self.saved(run),
        )
