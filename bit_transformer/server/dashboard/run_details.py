"""Details of a run besides its records: floors, settings and checkpoints."""

from typing import Any

from nicegui import ui

from bit_transformer.server.dashboard.fields import fields_of
from bit_transformer.server.dashboard.formatting import help_of, label_of, number, size
from bit_transformer.server.operations import OPERATIONS

_SWITCHES = {
    "model.reversible": "reversible",
    "parallel.use_checkpoint": "checkpointing",
    "train.qat": "4-bit QAT",
    "model.parity": "parity",
    "parallel.compile": "compiled",
}


def floors_of(details: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """Return the floors of k, c and s: "floor" of the training penalty, "gate" of the gate."""
    floors: dict[str, dict[str, float]] = {}
    if details is None:
        return floors
    for name, value in ((details["settings"] or {}).get("objective", {})).items():
        if name.startswith("floor_"):
            floors.setdefault(name.removeprefix("floor_"), {})["floor"] = value
    for name, value in (details["floors"] or {}).items():
        floors.setdefault(name, {})["gate"] = value
    return floors


def enabled_features(details: dict[str, Any] | None) -> list[str]:
    """Return a short label for each optional feature that a run uses."""
    settings = (details or {}).get("settings")
    if not settings:
        return [] if details is None else ["model without training state"]
    found = [
        label
        for path, label in _SWITCHES.items()
        if settings[path.split(".")[0]].get(path.split(".")[1])
    ]
    model, objective = settings["model"], settings["objective"]
    if model["use_act"]:
        found.append(f"ACT {model['act_threshold']:g}")
    if model["chunk_size"]:
        found.append(f"chunks of {model['chunk_size']} bits")
    for name, value in objective.items():
        if name.startswith("lambda_") and value:
            found.append(f"lambda {name[-1].upper()} {value:g}")
    return found


def draw_settings(details: dict[str, Any] | None) -> None:
    """Draw tables of the checkpoints and of all settings, collapsed."""
    if details is None:
        return
    if details["checkpoints"]:
        with ui.expansion("Checkpoints", icon="save").classes("w-full"):
            _draw_table(
                ("name", "step", "held-out bits per byte", "size"),
                [
                    (one["name"], one["step"], number(one["bits_per_byte"]), size(one["bytes"]))
                    for one in details["checkpoints"]
                ],
            )
    if details["settings"]:
        with ui.expansion("All settings", icon="tune").classes("w-full"):
            _draw_table(("setting", "value", "default"), _setting_rows(details["settings"]))


def _setting_rows(settings: dict[str, Any]) -> list[tuple[Any, ...]]:
    known = fields_of(OPERATIONS["train"].request)
    return [
        (
            f"{section}.{name}",
            help_of(str(value)),
            help_of(str(known[f"{section}.{name}"].default))
            if f"{section}.{name}" in known
            else label_of(name),
        )
        for section, fields in settings.items()
        for name, value in fields.items()
    ]


def _draw_table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    frame = ui.element("div").style("overflow-x:auto;width:100%")
    with frame, ui.element("table").classes("bt-table"):
        with ui.element("thead"), ui.element("tr"):
            for title in head:
                with ui.element("th").props("scope=col"):
                    ui.label(title)
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    for value in row:
                        with ui.element("td"):
                            ui.label(str(value))
