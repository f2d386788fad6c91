"""Choices stored in the browser, never a token. They are validated like all other input."""

import json
from typing import Annotated, Any, Literal

from nicegui import ui
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bit_transformer.server.schemas import Name

_KEY = "bit-transformer-dashboard"
_MAX_CHARACTERS = 1 << 20
Tab = Literal["runs", "new", "ask", "review", "files", "hub"]
FieldPath = Annotated[str, Field(max_length=100)]


class Preferences(BaseModel):
    """Content of the browser's localStorage entry."""

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    tab: Tab = "runs"
    dark: bool | None = None
    """None follows the system's theme."""
    run: Name | None = None
    """The selected run."""
    forms: dict[FieldPath, dict[FieldPath, JsonValue]] = {}
    """Changed fields, by form and by field path."""


def parse(text: str | None) -> Preferences:
    """Parse preferences stored by a browser. Invalid parts are ignored."""
    if not text or len(text) > _MAX_CHARACTERS:
        return Preferences()
    try:
        found = json.loads(text)
    except ValueError:
        return Preferences()
    valid: dict[str, Any] = {}
    for name in Preferences.model_fields:
        if isinstance(found, dict) and name in found:
            try:
                valid[name] = getattr(Preferences.model_validate({name: found[name]}), name)
            except ValidationError:
                continue
    return Preferences(**valid)


async def load() -> Preferences:
    """Load the preferences of this page's browser; the theme defaults to that of its system."""
    found = await ui.run_javascript(
        f"[localStorage.getItem({_KEY!r}), matchMedia('(prefers-color-scheme: dark)').matches]",
        timeout=60,
    )
    preferences = parse(found[0])
    if preferences.dark is None:
        preferences.dark = bool(found[1])
    return preferences


def save_changes(preferences: Preferences) -> None:
    """Start a timer that saves the preferences when they have changed."""
    last = preferences.model_dump_json()

    def save() -> None:
        nonlocal last
        now = preferences.model_dump_json()
        if now != last:
            last = now
            ui.run_javascript(f"localStorage.setItem({_KEY!r}, {json.dumps(now)})")

    ui.timer(0.3, save)
