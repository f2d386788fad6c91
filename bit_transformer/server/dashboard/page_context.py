"""State shared by the parts of one page."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nicegui import ui

from bit_transformer.errors import BitTransformerError
from bit_transformer.server.dashboard.backend import Backend
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.poller import Poller, Snapshot
from bit_transformer.server.dashboard.preferences import Preferences, Tab
from bit_transformer.server.operations import OPERATIONS

T = TypeVar("T")


@dataclass
class PageContext:
    """One page of one visitor."""

    backend: Backend
    poller: Poller
    preferences: Preferences
    on_snapshot: list[Callable[[Snapshot], None]] = field(default_factory=list)
    """Listeners for every new snapshot."""
    on_theme: list[Callable[[bool], None]] = field(default_factory=list)
    """Listeners for a change of theme; the argument is whether it is dark."""
    on_run: list[Callable[[str], None]] = field(default_factory=list)
    """Listeners for a newly selected run."""
    show_tab: Callable[[Tab], object] = lambda _: None

    @property
    def dark(self) -> bool:
        """Whether the theme is dark."""
        return bool(self.preferences.dark)

    def form(self, operation: str, **more: Any) -> Form:
        """Make the form of an operation. The browser stores the changed fields."""
        changed = self.preferences.forms.setdefault(operation, {})
        return Form(OPERATIONS[operation].request, changed, **more)

    def select_run(self, name: str) -> None:
        """Select a run in all parts of the page."""
        self.preferences.run = name
        for listener in self.on_run:
            listener(name)

    async def attempt(self, call: Awaitable[T]) -> T | None:
        """Await a call and return its response. Show the error and return None if it fails."""
        try:
            return await call
        except BitTransformerError as error:
            show_error(str(error))
            return None
        finally:
            self.poller.poll_now()

    async def submit(self, operation: str, form: Form, **more: Any) -> Any:
        """Send a form and return the response. Show errors in the form and return None.

        The form keeps its input in either case.
        """
        fields = form.validated()
        if fields is None:
            return None
        try:
            return await self.backend.call(operation, {**fields, **more})
        except BitTransformerError as error:
            form.show_error(str(error))
            return None
        finally:
            self.poller.poll_now()


def show_error(message: str) -> None:
    """Show an error message that stays long enough to be read."""
    ui.notify(message, type="negative", multi_line=True, timeout=30_000, close_button="Close")
