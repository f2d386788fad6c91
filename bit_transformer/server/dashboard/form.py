"""A form generated from a request class, with the help texts and bounds of the class."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui
from nicegui.element import Element
from pydantic import BaseModel, ValidationError

from bit_transformer.server.dashboard.fields import FieldSpec, fields_of

_ids = itertools.count()


class Form:
    """Fields of one request. Only changed fields are stored and sent; the server has the rest."""

    def __init__(
        self,
        request: type[BaseModel],
        changed: dict[str, Any],
        base: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """`changed` maps paths to values other than the default; the form keeps it up to date.

        `base` returns defaults, by path, that depend on the changed values.
        """
        self._request, self._values, self._base = request, changed, base
        self.fields = fields_of(request)
        # The values come from the browser, so they may not fit this version of the class.
        for path in [path for path in changed if not self._accepts(path, changed[path])]:
            del changed[path]
        self._secrets: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._widgets: dict[str, Any] = {}
        self._boxes: dict[str, Element] = {}
        self._errors: dict[str, ui.label] = {}
        self._updating = False
        """Whether the form, and not the user, is changing widgets."""
        self._alert: ui.label | None = None

    def _accepts(self, path: str, value: Any) -> bool:
        return path in self.fields and self.fields[path].accepts(value)

    def field(self, path: str, help: str | None = None, **look: Any) -> Any:
        """Draw one field. Return its widget; None if the class has no such field."""
        spec = self.fields.get(path)
        if spec is None or path in self._widgets:
            return None
        help_id = f"help-{next(_ids)}"
        with ui.column().classes("bt-field") as box:
            widget = _widget_of(spec, self.value(path), help_id, **look)
            error = ui.label().classes("bt-alert bt-field-error").props("role=alert")
            error.set_visibility(False)
            if text := help or spec.help:
                ui.label(text).classes("bt-help").props(f"id={help_id}")
        widget.on_value_change(lambda event: self._on_change(spec, event.value))
        self._widgets[path], self._boxes[path], self._errors[path] = widget, box, error
        box.set_visibility(path not in self._hidden)
        return widget

    def remaining_fields(self, prefix: str) -> None:
        """Draw the fields of a section that are not drawn yet."""
        for path in self.fields:
            if path.startswith(prefix):
                self.field(path)

    def error_area(self) -> None:
        """Draw the label for errors that belong to no visible field."""
        self._alert = ui.label().classes("bt-alert").props("role=alert")
        self._alert.set_visibility(False)

    def show_error(self, message: str | None) -> None:
        """Show an error of the whole form, or none."""
        if self._alert is not None:
            self._alert.set_text(message or "")
            self._alert.set_visibility(bool(message))

    def set_options(self, path: str, options: list[str]) -> None:
        """Set the options of a drop-down field."""
        if path in self._widgets:
            self._updating = True
            _set_options(self._widgets[path], options)
            self._updating = False

    def set_visible(self, path: str, visible: bool) -> None:
        """Show or hide a field. A hidden field is not sent."""
        (self._hidden.discard if visible else self._hidden.add)(path)
        if path in self._boxes:
            self._boxes[path].set_visibility(visible)

    def value(self, path: str) -> Any:
        """Return the value of a field."""
        return self._values.get(path, self._default(path))

    def set(self, path: str, value: Any) -> None:
        """Set a field as if the user had typed the value."""
        if path in self._widgets:
            _set_value(self._widgets[path], value)
        else:
            self._store(self.fields[path], value)

    def request(self) -> dict[str, Any]:
        """Return the changed fields, nested like the request class."""
        found: dict[str, Any] = {}
        for path, value in {**self._values, **self._secrets}.items():
            if path not in self._hidden:
                *sections, name = path.split(".")
                inner = found
                for section in sections:
                    inner = inner.setdefault(section, {})
                inner[name] = value
        return found

    def validated(self) -> dict[str, Any] | None:
        """Return the request if it is valid; otherwise show the errors and return None."""
        return self.request() if self._validate(complete=True) else None

    def reset(self) -> None:
        """Set all fields to their defaults."""
        self._values.clear()
        self._secrets.clear()
        self._refresh()
        self._validate(complete=False)

    def _default(self, path: str) -> Any:
        base = self._base(self._values)
        return base.get(path, self.fields[path].default)

    def _on_change(self, spec: FieldSpec, value: Any) -> None:
        if self._updating:
            return
        self._store(spec, value)
        self._refresh()
        self._validate(complete=False)

    def _store(self, spec: FieldSpec, value: Any) -> None:
        value = spec.from_widget(value)
        store: dict[str, Any] = self._secrets if spec.kind == "secret" else self._values
        # An empty field means the default if the field does not allow None.
        if value == self._default(spec.path) or (value is None and not spec.nullable):
            store.pop(spec.path, None)
        else:
            store[spec.path] = value

    def _refresh(self) -> None:
        """Show defaults that depend on the field that has changed."""
        self._updating = True
        for path, widget in self._widgets.items():
            spec = self.fields[path]
            value = self._secrets.get(path) if spec.kind == "secret" else self.value(path)
            if spec.from_widget(widget.value) != value:
                _set_value(widget, value)
        self._updating = False

    def _validate(self, *, complete: bool) -> bool:
        """Validate the request and show errors. Missing fields are errors only if `complete`."""
        errors: dict[str, str] = {}
        try:
            self._request.model_validate(self.request())
        except ValidationError as error:
            for one in error.errors():
                if complete or one["type"] != "missing":
                    path, message = self._locate(one["loc"], one["msg"])
                    errors.setdefault(path, message)
        for path in self._widgets:
            self._show_field_error(path, errors.get(path))
        hidden = [text for path, text in errors.items() if not self._is_visible(path)]
        self.show_error("; ".join(hidden))
        return not errors

    def _show_field_error(self, path: str, message: str | None) -> None:
        self._errors[path].set_text(message or "")
        self._errors[path].set_visibility(message is not None)
        box, invalid = self._boxes[path], message is not None
        box.classes(add="bt-invalid" if invalid else "", remove="" if invalid else "bt-invalid")

    def _is_visible(self, path: str) -> bool:
        return path in self._boxes and self._boxes[path].visible

    def _locate(self, location: tuple[Any, ...], message: str) -> tuple[str, str]:
        """Return the path of the field that an error is about, and its message.

        An error of a whole section begins with the name of a field.
        """
        message = message.removeprefix("Value error, ")
        parts = [str(part) for part in location if not isinstance(part, int)]
        for path in (".".join(parts), ".".join([*parts, message.split(" ")[0].split("=")[0]])):
            if path in self.fields:
                return path, "is required" if message == "Field required" else message
        return ".".join(parts), message


def _widget_of(
    spec: FieldSpec,
    value: Any,
    described_by: str,
    *,
    choices: Sequence[str] | None = None,
    lines: int = 1,
    label: str | None = None,
) -> Any:
    """Draw a widget. `choices` makes it a drop-down; `lines` is the height of a text field."""
    label = label or spec.label
    if spec.kind == "boolean":
        return ui.switch(label, value=bool(value)).props(f"aria-describedby={described_by}")
    look = f"outlined dense stack-label aria-describedby={described_by}"
    if choices is not None:
        return _drop_down(spec, value, choices, label).props(look)
    if spec.kind == "choice":
        return ui.select(list(spec.options), label=label, value=value).props(look)
    if spec.kind in ("integer", "number"):
        empty = "none" if spec.nullable else None
        return ui.number(label, value=value, placeholder=empty).props(f"{look} step=any")
    if spec.kind == "list":
        return ui.input_chips(label, value=[str(one) for one in value]).props(look)
    if spec.kind == "secret":
        return ui.input(label, password=True).props(f"{look} autocomplete=off")
    if lines > 1:
        return ui.textarea(label, value=value).props(f"{look} rows={lines}")
    return ui.input(label, value=value or "").props(look)


def _drop_down(spec: FieldSpec, value: Any, choices: Sequence[str], label: str) -> ui.select:
    many = spec.kind == "list"
    current = list(value) if many else [value] if value else []
    return ui.select(
        list(dict.fromkeys([*choices, *current])),
        label=label,
        value=value or ([] if many else None),
        multiple=many,
        with_input=True,
        clearable=spec.nullable,
        new_value_mode="add-unique" if many else None,
    ).props("use-chips" if many else "")


def _set_options(select: ui.select, options: Sequence[str]) -> None:
    """Set the options of a drop-down and keep its current value."""
    value = select.value
    current = list(value) if isinstance(value, list) else [value] if value else []
    all_options = list(dict.fromkeys([*options, *current]))
    if list(select.options) != all_options:
        select.set_options(all_options, value=value)


def _set_value(widget: Any, value: Any) -> None:
    """Set the value of a widget. A drop-down gets the value as an option if it has to."""
    if isinstance(widget, ui.select) and value is not None:
        values = value if isinstance(value, list) else [value]
        if any(one not in widget.options for one in values):
            widget.set_options(list(dict.fromkeys([*widget.options, *values])))
    widget.set_value(value)
