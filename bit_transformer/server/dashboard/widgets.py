"""The widget of a field, by its kind."""

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from bit_transformer.server.dashboard.fields import FieldSpec


def widget_of(
    spec: FieldSpec,
    value: Any,
    described_by: str,
    *,
    choices: Sequence[str] | None = None,
    lines: int = 1,
    label: str | None = None,
) -> Any:
    """Draw it; `choices` are suggestions for a text, `lines` its height."""
    label = label or spec.label
    if spec.kind == "boolean":
        return ui.switch(label, value=bool(value)).props(f"aria-describedby={described_by}")
    look = f"outlined dense stack-label aria-describedby={described_by}"
    if choices is not None:
        return _choosing(spec, value, choices, label).props(look)
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


def _choosing(spec: FieldSpec, value: Any, choices: Sequence[str], label: str) -> ui.select:
    many = spec.kind == "list"
    held = list(value) if many else [value] if value else []
    return ui.select(
        list(dict.fromkeys([*choices, *held])),
        label=label,
        value=value or ([] if many else None),
        multiple=many,
        with_input=True,
        clearable=spec.nullable,
        new_value_mode="add-unique" if many else None,
    ).props("use-chips" if many else "")


def set_options(select: ui.select, options: Sequence[str]) -> None:
    """Offer these, and what is chosen already."""
    value = select.value
    held = list(value) if isinstance(value, list) else [value] if value else []
    wanted = list(dict.fromkeys([*options, *held]))
    if list(select.options) != wanted:
        select.set_options(wanted, value=value)


def put(widget: Any, value: Any) -> None:
    """Have a widget hold a value, one that nobody has offered so far included."""
    if isinstance(widget, ui.select) and value is not None:
        values = value if isinstance(value, list) else [value]
        if any(one not in widget.options for one in values):
            widget.set_options(list(dict.fromkeys([*widget.options, *values])))
    widget.set_value(value)
