"""A form made of a request's class: each field once, with the class's own words and bounds."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui
from nicegui.element import Element
from pydantic import BaseModel, ValidationError

from bit_transformer.server.dashboard.fields import FieldSpec, fields_of
from bit_transformer.server.dashboard.widgets import put, set_options, widget_of

_numbers = itertools.count()


class Form:
    """Fields of one request; what was changed is kept, what was not stays the class's default."""

    def __init__(
        self,
        request: type[BaseModel],
        kept: dict[str, Any],
        base: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """`kept` is read and written: paths with values that are not the default.

        `base` gives defaults that depend on what was changed, by path.
        """
        self._request, self._kept, self._base = request, kept, base
        self.fields = fields_of(request)
        for path in [path for path in kept if not self._is_fit(path, kept[path])]:
            del kept[path]
        self._secrets: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._widgets: dict[str, Any] = {}
        self._places: dict[str, Element] = {}
        self._complaints: dict[str, ui.label] = {}
        self._setting = False
        self._alert: ui.label | None = None

    def _is_fit(self, path: str, value: Any) -> bool:
        return path in self.fields and self.fields[path].accepts(value)

    def field(self, path: str, help: str | None = None, **look: Any) -> Any:
        """Draw one field here; nothing where the class has none of that name."""
        spec = self.fields.get(path)
        if spec is None or path in self._widgets:
            return None
        number = next(_numbers)
        with ui.column().classes("bt-field") as place:
            widget = widget_of(spec, self.value(path), f"help-{number}", **look)
            complaint = ui.label().classes("bt-alert bt-complaint").props("role=alert")
            complaint.set_visibility(False)
            if words := help or spec.help:
                ui.label(words).classes("bt-help").props(f"id=help-{number}")
        widget.on_value_change(lambda event: self._changed(spec, event.value))
        self._widgets[path], self._places[path] = widget, place
        self._complaints[path] = complaint
        place.set_visibility(path not in self._hidden)
        return widget

    def rest(self, prefix: str) -> None:
        """Draw the fields of a section that were not drawn before."""
        for path in self.fields:
            if path.startswith(prefix):
                self.field(path)

    def alert(self) -> None:
        """Draw the place where it is said what is wrong."""
        self._alert = ui.label().classes("bt-alert").props("role=alert")
        self._alert.set_visibility(False)

    def say(self, sentence: str | None) -> None:
        """Say what is wrong with all of it."""
        if self._alert is not None:
            self._alert.set_text(sentence or "")
            self._alert.set_visibility(bool(sentence))

    def offer(self, path: str, options: list[str]) -> None:
        """Give a field what there is to choose from."""
        if path in self._widgets:
            self._setting = True
            set_options(self._widgets[path], options)
            self._setting = False

    def show(self, path: str, shown: bool) -> None:
        """Show or hide a field; a hidden one is not asked for."""
        (self._hidden.discard if shown else self._hidden.add)(path)
        if path in self._places:
            self._places[path].set_visibility(shown)

    def value(self, path: str) -> Any:
        """What a field holds."""
        return self._kept.get(path, self._default(path))

    def set(self, path: str, value: Any) -> None:
        """Put a value into a field, as if it had been typed."""
        if path in self._widgets:
            put(self._widgets[path], value)
        else:
            self._take(self.fields[path], value)

    def request(self) -> dict[str, Any]:
        """What to ask for: the fields that were changed, nested as the class is."""
        found: dict[str, Any] = {}
        for path, value in {**self._kept, **self._secrets}.items():
            if path not in self._hidden:
                *sections, name = path.split(".")
                inner = found
                for section in sections:
                    inner = inner.setdefault(section, {})
                inner[name] = value
        return found

    def checked(self) -> dict[str, Any] | None:
        """The request if it can be meant; else None, and the page says what is wrong."""
        return self.request() if self._check(complete=True) else None

    def forget(self) -> None:
        """All fields back to their defaults."""
        self._kept.clear()
        self._secrets.clear()
        self._refresh()
        self._check(complete=False)

    def _default(self, path: str) -> Any:
        base = self._base(self._kept)
        return base.get(path, self.fields[path].default)

    def _changed(self, spec: FieldSpec, value: Any) -> None:
        if self._setting:
            return
        self._take(spec, value)
        self._refresh()
        self._check(complete=False)

    def _take(self, spec: FieldSpec, value: Any) -> None:
        value = spec.taken(value)
        store: dict[str, Any] = self._secrets if spec.kind == "secret" else self._kept
        # An empty field that must not be empty stands for its default.
        if value == self._default(spec.path) or (value is None and not spec.nullable):
            store.pop(spec.path, None)
        else:
            store[spec.path] = value

    def _refresh(self) -> None:
        """Show defaults that have changed with another field."""
        self._setting = True
        for path, widget in self._widgets.items():
            spec = self.fields[path]
            value = self._secrets.get(path) if spec.kind == "secret" else self.value(path)
            if spec.taken(widget.value) != value:
                put(widget, value)
        self._setting = False

    def _check(self, *, complete: bool) -> bool:
        wrong: dict[str, str] = {}
        try:
            self._request.model_validate(self.request())
        except ValidationError as error:
            for one in error.errors():
                if complete or one["type"] != "missing":
                    place, sentence = self._place(one["loc"], one["msg"])
                    wrong.setdefault(place, sentence)
        for path in self._widgets:
            self._complain(path, wrong.get(path))
        self.say("; ".join(text for path, text in wrong.items() if not self._is_shown(path)))
        return not wrong

    def _complain(self, path: str, sentence: str | None) -> None:
        """Say below a field what is wrong with it."""
        self._complaints[path].set_text(sentence or "")
        self._complaints[path].set_visibility(sentence is not None)
        place, wrong = self._places[path], sentence is not None
        place.classes(add="bt-wrong" if wrong else "", remove="" if wrong else "bt-wrong")

    def _is_shown(self, path: str) -> bool:
        return path in self._places and self._places[path].visible

    def _place(self, location: tuple[Any, ...], message: str) -> tuple[str, str]:
        """The field that an error speaks of, and its sentence."""
        message = message.removeprefix("Value error, ")
        parts = [str(part) for part in location if not isinstance(part, int)]
        for path in (".".join(parts), ".".join([*parts, message.split(" ")[0].split("=")[0]])):
            if path in self.fields:
                return path, "is needed" if message == "Field required" else message
        return ".".join(parts), message
