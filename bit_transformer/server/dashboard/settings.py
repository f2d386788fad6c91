"""What a browser remembers: choices, never a token. Read back with suspicion, as all input."""

import json
from typing import Annotated, Any, Literal

from nicegui import ui
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bit_transformer.server.schemas import Name

_KEY = "bit-transformer-dashboard"
_MOST_CHARACTERS = 1 << 20
Tab = Literal["runs", "new", "ask", "review", "files", "hub"]
FieldPath = Annotated[str, Field(max_length=100)]


class Settings(BaseModel):
    """Content of the browser's localStorage."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    tab: Tab = "runs"
    dark: bool | None = None
    """None: as the system has it."""
    run: Name | None = None
    """The run that is looked at."""
    forms: dict[FieldPath, dict[FieldPath, JsonValue]] = {}
    """By form, the fields that were changed."""


def parse(text: str | None) -> Settings:
    """The settings of a text from a browser; whatever is wrong with it counts as not there."""
    if not text or len(text) > _MOST_CHARACTERS:
        return Settings()
    try:
        found = json.loads(text)
    except ValueError:
        return Settings()
    kept: dict[str, Any] = {}
    for name in Settings.model_fields:
        if isinstance(found, dict) and name in found:
            try:
                kept[name] = getattr(Settings.model_validate({name: found[name]}), name)
            except ValidationError:
                continue
    return Settings(**kept)


async def load() -> Settings:
    """The settings of the browser of this page; the theme of its system where none was chosen."""
    found = await ui.run_javascript(
        f"[localStorage.getItem({_KEY!r}), matchMedia('(prefers-color-scheme: dark)').matches]",
        timeout=60,
    )
    settings = parse(found[0])
    if settings.dark is None:
        settings.dark = bool(found[1])
    return settings


def keep(settings: Settings) -> None:
    """Save them whenever they have changed."""
    last = settings.model_dump_json()

    def save() -> None:
        nonlocal last
        now = settings.model_dump_json()
        if now != last:
            last = now
            ui.run_javascript(f"localStorage.setItem({_KEY!r}, {json.dumps(now)})")

    ui.timer(0.3, save)
