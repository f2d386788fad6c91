"""Limits of a server, and constants that its clients share. Imports are light, for `--help`."""

import dataclasses
from dataclasses import dataclass

from bit_transformer.errors import require

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Names of runs and files. They have no separators, no leading dot, and no character that means
something in a header or in a shell."""
TOKEN_VARIABLE = "BIT_TRANSFORMER_TOKEN"
"""Environment variable that holds the token, for servers and clients."""
MAX_NEW_BYTES = 4096
"""Bytes that one request may generate."""
MAX_TEXT = 1 << 18
"""Characters of a text in a request. Longer data is uploaded as a file."""


@dataclass(frozen=True)
class Limits:
    """Limits of one server. Every refusal names the limit that was exceeded."""

    running: int = 1
    """Jobs that run at a time. The default is 1 because a training uses all cores."""
    queued: int = 16
    """Jobs that may wait."""
    jobs_kept: int = 1000
    """Finished jobs that stay listed. Older ones are removed, but their runs and files stay."""
    computing: int = 2
    """Requests that may compute at a time. Others wait."""
    waiting: int = 32
    """Requests that may wait to compute. Further requests are refused at once."""
    wait_seconds: float = 30.0
    """Seconds that a request may wait to compute."""
    models: int = 2
    """Loaded models kept in memory."""
    model_bytes: int = 4 << 30
    """Bytes of weights of the largest model that may be made or loaded."""
    mixer_bytes: int = 1 << 30
    """Bytes of the largest saved context mixer that may be made or loaded. Each request that mixes
    copies the mixer of its run."""
    body_bytes: int = 1 << 20
    """Bytes of a request body that is not an upload."""
    upload_bytes: int = 1 << 30
    """Bytes of one uploaded file."""
    output_bytes: int = 16 << 30
    """Bytes that one file may decompress to."""
    requests_per_second: float = 100.0
    """Average number of requests that one address may send."""
    burst: int = 300
    """Requests that one address may send at once."""
    connections: int = 512
    """Open connections."""
    silence_seconds: float = 30.0
    """Seconds that a client may take to send the next part of a request, or to read a response."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(value > 0, field.name, value, "above 0")
