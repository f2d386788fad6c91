"""What the parts of one page share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nicegui import ui

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.pulse import Pulse, Snapshot
from bit_transformer.server.dashboard.settings import Settings, Tab
from bit_transformer.server.operations import OPERATIONS

T = TypeVar("T")


@dataclass
class Desk:
    """One page of one visitor."""

    backend: Backend
    pulse: Pulse
    settings: Settings
    listeners: list[Callable[[Snapshot], None]] = field(default_factory=list)
    """Hear of every new snapshot."""
    on_theme: list[Callable[[bool], None]] = field(default_factory=list)
    on_run: list[Callable[[str], None]] = field(default_factory=list)
    show_tab: Callable[[Tab], None] = lambda _: None

    @property
    def dark(self) -> bool:
        """Whether the page is dark."""
        return bool(self.settings.dark)

    def form(self, operation: str, **more: Any) -> Form:
        """A form for an operation; what is changed in it is remembered."""
        kept = self.settings.forms.setdefault(operation, {})
        return Form(OPERATIONS[operation].request, kept, **more)

    def choose_run(self, name: str) -> None:
        """Look at another run."""
        self.settings.run = name
        for listener in self.on_run:
            listener(name)

    async def attempt(self, asked: Awaitable[T]) -> T | None:
        """The answer; None where there is none, once the page has said why."""
        try:
            return await asked
        except BitTransformerError as error:
            complain(str(error))
            return None
        finally:
            self.pulse.hurry()

    async def submit(self, operation: str, form: Form, **more: Any) -> Any:
        """Ask for what a form holds; None where that failed, once the form says why.

        Nothing that was typed is lost.
        """
        fields = form.checked()
        if fields is None:
            return None
        try:
            return await self.backend.call(operation, {**fields, **more})
        except BitTransformerError as error:
            form.say(str(error))
            return None
        finally:
            self.pulse.hurry()


def complain(sentence: str) -> None:
    """Say what went wrong, long enough to be read."""
    ui.notify(sentence, type="negative", multi_line=True, timeout=30_000, close_button="Close")
