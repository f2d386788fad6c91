"""What a repository is called."""

import re
from dataclasses import dataclass

from bit_transformer.errors import ConfigError

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_PATTERN = re.compile(rf"(?:hf:/{{1,2}})?({_PART}/{_PART})(?:@([A-Za-z0-9._/-]{{1,200}}))?")


@dataclass(frozen=True)
class HubId:
    """A repository and, perhaps, a branch, tag or commit of it."""

    repository: str
    """As in user/name."""
    revision: str | None = None
    """None: the newest state of the main branch."""

    @classmethod
    def parse(cls, text: str) -> "HubId":
        """The id that `user/name`, `user/name@revision` or either after `hf://` spells.

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
    """As `HubId.parse`, None where it raises."""
    found = _PATTERN.fullmatch(text)
    if found is None or ".." in text or "--" in found[1]:
        return None
    return HubId(found[1], found[2])
