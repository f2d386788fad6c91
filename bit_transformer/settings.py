"""The base class of all settings, which become flags, TOML sections and JSON schemas."""

from typing import Any, ClassVar


class Settings:
    """Configures how pydantic reads a dataclass of settings, without importing pydantic.

    Unknown names are errors, because a misspelt setting would otherwise run with its default.
    JSON schemas contain the docstrings of fields, for forms and agents.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }
