"""Models: smaller weights, to the hub and from it."""

from functools import partial

from nicegui import ui

from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.pieces import button, card, empty
from bit_transformer.server.dashboard.pulse import Snapshot

_UPLOADS = {"push": "all that training elsewhere needs", "save_checkpoint": "the model only"}
_DOWNLOADS = {"pull": "all that training needs", "download_checkpoint": "the model only"}


def draw_models(desk: Desk) -> None:
    """A card for each thing to do with a model."""
    with ui.element("div").classes("bt-split bt-halves"):
        with card("Quantize", "Weights of 8 or 4 bits instead of 32, for inference."):
            quantize = _draw_quantization(desk)
        with card("Upload to the hub", "With a model card that tells the figures.") as upload:
            push = _draw_hub(desk, "push", _UPLOADS, "cloud_upload", "Upload")
        with card("Download from the hub", "To ask it, or to train on.") as download:
            _draw_hub(desk, "pull", _DOWNLOADS, "cloud_download", "Download")
        with card("Hub") as no_hub:
            empty("cloud_off", "The server has no hub library; install bit-transformer[hub] there.")

    def show(now: Snapshot) -> None:
        quantize.offer("run", now.run_names())
        quantize.offer("file", now.file_names())
        schemes = quantize.fields["to"].options
        if now.status is not None:
            quantize.offer("to", [one for one in schemes if now.features.get(one, True)])
        push.offer("run", now.run_names())
        can = bool(now.features.get("hub", now.status is None))
        upload.set_visibility(can)
        download.set_visibility(can)
        no_hub.set_visibility(not can)

    desk.listeners.append(show)
    for form in (quantize, push):
        desk.on_run.append(partial(form.set, "run"))


def _draw_quantization(desk: Desk) -> Form:
    form = desk.form("quantize")

    async def start() -> None:
        if await desk.submit("quantize", form):
            form.set("out", None)

    form.field("run", choices=())
    form.field("to")
    form.field("out")
    form.field("file", choices=())
    form.alert()
    with ui.row().classes("bt-actions"):
        button("Quantize", "compress", start, main=True)
    return form


def _draw_hub(desk: Desk, operation: str, kinds: dict[str, str], icon: str, text: str) -> Form:
    form = desk.form(operation)

    async def start() -> None:
        await desk.submit(what.value, form)

    form.field("repo")
    form.field("run", choices=() if operation == "push" else None)
    form.field("token")
    form.rest("")
    what = ui.select(kinds, label="What", value=operation).props("outlined dense stack-label")
    what.classes("w-full")
    form.alert()
    with ui.row().classes("bt-actions"):
        button(text, icon, start, main=True)
    return form
