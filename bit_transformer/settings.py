"""The base of all settings: dataclasses that become flags, TOML sections and JSON schemas."""

from typing import Any, ClassVar


class Settings:
    """Tells pydantic how to read a dataclass of settings, without importing pydantic.

    Unknown names are refused, because a misspelt setting would otherwise run with its default.
    Docstrings of fields go into JSON schemas, which forms and agents read.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }
