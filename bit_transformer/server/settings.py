"""What a server grants to whom asks."""

import dataclasses
from dataclasses import dataclass

from bit_transformer.errors import ConfigError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Names of runs and files: no separators, no leading dot, nothing a header or a shell reads."""
TOKEN_VARIABLE = "BIT_TRANSFORMER_TOKEN"
"""Environment variable with the token, of servers and of those who ask them."""
MOST_NEW_BYTES = 4096
"""Bytes that one request may have generated while it waits."""
MOST_TEXT = 1 << 18
"""Characters of a text in a request; longer data is uploaded as a file."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one server; every refusal names the one that was met."""

    running: int = 1
    """Jobs at a time; a training takes all cores."""
    queued: int = 16
    """Jobs that may wait."""
    jobs_kept: int = 1000
    """Jobs that are over and still listed; older ones are removed, what they made stays."""
    computing: int = 2
    """Requests that may compute at a time; others wait for them."""
    waiting: int = 32
    """Requests that may wait for their turn to compute; more are refused at once."""
    wait_seconds: float = 30.0
    """How long a request waits for its turn to compute."""
    models: int = 2
    """Loaded models kept in memory."""
    model_bytes: int = 4 << 30
    """Weights of the largest model that may be made or loaded."""
    body_bytes: int = 1 << 20
    """Body of a request that is no upload."""
    upload_bytes: int = 1 << 30
    """One uploaded file."""
    output_bytes: int = 16 << 30
    """What one file may decompress to."""
    requests_per_second: float = 100.0
    """Requests of one address, on average."""
    burst: int = 300
    """Requests of one address at once."""
    connections: int = 512
    """Open connections."""
    silence_seconds: float = 30.0
    """How long a client may take over the next part of a request, or to read of an answer."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"{field.name} must be above 0, got {value}")
