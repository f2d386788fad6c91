"""Tab "Train": the form of a new run. The main settings come first, then all others."""

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from bit_transformer.model.config import preset
from bit_transformer.server.dashboard.components import button, card, collapsed
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.formatting import help_of, label_of
from bit_transformer.server.dashboard.page_context import PageContext
from bit_transformer.server.dashboard.poller import Snapshot
from bit_transformer.server.training_request import RunSettings
from bit_transformer.training.config import SECTIONS

_MAIN = ("run", "preset", "data.sources", "train.steps", "train.batch_size", "train.device")
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
"""Features of the server without which a field is hidden."""


def draw_training(page: PageContext) -> None:
    """Draw the tab."""
    form = page.form("train", base=_preset_defaults)
    hint = "The default settings train a small model on the Python standard library."
    with card("New run", hint), ui.element("div").classes("bt-grid"):
        for path in _MAIN:
            if path == "data.sources":
                form.field(path, help=_section_help("data"), choices=())
            else:
                form.field(path)
    for title, paths in _GROUPS.items():
        wide = "bt-three" if len(paths) % 3 == 0 else ""
        with card(title), ui.element("div").classes(f"bt-grid {wide}"):
            for path in paths:
                form.field(path)
    with card("All other settings"):
        for section in SECTIONS:
            with collapsed(label_of(section)):
                form.remaining_fields(f"{section}.")
    with ui.column().classes("bt-card bt-sticky"):
        form.error_area()
        with ui.row().classes("bt-actions"):
            button("Start training", "play_arrow", lambda: _start(page, form, "train"), main=True)
            button("Create untrained model", "fiber_new", lambda: _start(page, form, "init"))
            button("Reset form", "restart_alt", form.reset)
    page.on_snapshot.append(lambda now: _update(form, now))


def _section_help(section: str) -> str:
    """Return the help text of a section of the request."""
    return help_of(RunSettings.model_fields[section].description or "")


def _preset_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of the model settings: those of the selected preset."""
    selected = preset(str(values.get("preset", "tiny"))).to_dict()
    return {f"model.{name}": value for name, value in selected.items()}


def _update(form: Form, now: Snapshot) -> None:
    """Offer the files of the server and hide what the server does not support."""
    if now.status is None:
        return
    form.set_options("data.sources", now.file_names())
    for path, feature in _NEEDS.items():
        form.set_visible(path, bool(now.features.get(feature)))
    form.set_visible("train.device", now.status["gpu"] is not None)


async def _start(page: PageContext, form: Form, operation: str) -> None:
    made = await page.submit(operation, form)
    if made is None:
        return
    run = made["run"] if operation == "train" else made["summary"]["name"]
    if "run" in form.request():
        # The name is taken from now on, so the next run needs another one.
        form.set("run", None)
    page.select_run(run)
    page.show_tab("runs")
