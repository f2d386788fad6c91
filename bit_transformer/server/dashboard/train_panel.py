"""The form of a new run: the documented switches first, then everything else there is."""

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from bit_transformer.model.config import preset
from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.pieces import button, card, folded
from bit_transformer.server.dashboard.pulse import Snapshot
from bit_transformer.server.dashboard.words import help_of, label_of
from bit_transformer.server.training_request import RunSettings
from bit_transformer.training.config import SECTIONS

_FIRST = ("run", "preset", "data.sources", "train.steps", "train.batch_size", "train.device")
_GROUPS = {
    "Memory and depth": (
        "model.reversible",
        "parallel.use_checkpoint",
        "train.qat",
        "model.use_act",
        "model.act_threshold",
    ),
    "Attention": ("model.chunk_size", "model.overlap", "model.max_seq_len"),
    "Telemetry floors": (
        *("objective.lambda_k", "objective.lambda_c", "objective.lambda_s"),
        *("objective.floor_k", "objective.floor_c", "objective.floor_s"),
    ),
}
_NEEDS = {"train.qat": "int4", "train.tensorboard": "tensorboard", "train.trackio": "trackio"}
"""Fields that mean something only where the server has a library."""


def draw_training(desk: Desk) -> None:
    """Configure a run and start it."""
    form = desk.form("train", base=_base)
    hint = "Left as it is, this trains a small model on the Python standard library."
    with card("New run", hint), ui.element("div").classes("bt-grid"):
        for path in _FIRST:
            if path == "data.sources":
                form.field(path, help=_what("data"), choices=())
            else:
                form.field(path)
    for title, paths in _GROUPS.items():
        wide = "bt-three" if len(paths) % 3 == 0 else ""
        with card(title), ui.element("div").classes(f"bt-grid {wide}"):
            for path in paths:
                form.field(path)
    with card("Everything else"):
        for section in SECTIONS:
            with folded(label_of(section)):
                form.rest(f"{section}.")
    with ui.column().classes("bt-card bt-sticky"):
        form.alert()
        with ui.row().classes("bt-actions"):
            button("Start training", "play_arrow", lambda: _start(desk, form, "train"), main=True)
            button("Make untrained", "fiber_new", lambda: _start(desk, form, "init"))
            button("Reset form", "restart_alt", form.forget)
    desk.listeners.append(lambda now: _fit(form, now))


def _what(section: str) -> str:
    """What a section is, in the words of the request."""
    return help_of(RunSettings.model_fields[section].description or "")


def _base(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of a model are those of its preset."""
    chosen = preset(str(kept.get("preset", "tiny"))).to_dict()
    return {f"model.{name}": value for name, value in chosen.items()}


def _fit(form: Form, now: Snapshot) -> None:
    """Show what this server can do."""
    if now.status is None:
        return
    form.offer("data.sources", now.file_names())
    for path, feature in _NEEDS.items():
        form.show(path, bool(now.features.get(feature)))
    form.show("train.device", now.status["gpu"] is not None)


async def _start(desk: Desk, form: Form, operation: str) -> None:
    made = await desk.submit(operation, form)
    if made is None:
        return
    run = made["run"] if operation == "train" else made["summary"]["name"]
    if "run" in form.request():
        # The next run needs another name.
        form.set("run", None)
    desk.choose_run(run)
    desk.show_tab("runs")
