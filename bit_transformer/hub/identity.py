"""Names of repositories on a hub."""

import re
from dataclasses import dataclass

from bit_transformer.errors import ConfigError

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_PATTERN = re.compile(rf"(?:hf:/{{1,2}})?({_PART}/{_PART})(?:@([A-Za-z0-9._/-]{{1,200}}))?")


@dataclass(frozen=True)
class HubId:
    """A repository and, optionally, a branch, tag or commit of it."""

    repository: str
    """A name like user/name."""
    revision: str | None = None
    """None stands for the newest commit of the main branch."""

    @classmethod
    def parse(cls, text: str) -> "HubId":
        """Parse `user/name` or `user/name@revision`, with or without `hf://` in front.

        Raises `ConfigError` for anything else.
        """
        found = parse_hub_id(text)
        if found is None:
            raise ConfigError(
                f"a repository is called user/name or user/name@revision, got {text!r}"
            )
        return found

    def __str__(self) -> str:
        return self.repository + (f"@{self.revision}" if self.revision else "")


def parse_hub_id(text: str) -> HubId | None:
    """Parse like `HubId.parse`, but return None instead of raising."""
    found = _PATTERN.fullmatch(text)
    if found is None or ".." in text or "--" in found[1]:
        return None
    return HubId(found[1], found[2])
