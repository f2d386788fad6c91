"""Tab "Models": quantize a model, warm its mixer, upload it to the hub, download one from it."""

from functools import partial

from nicegui import ui

from bit_transformer.server.dashboard.components import button, card, empty
from bit_transformer.server.dashboard.form import Form
from bit_transformer.server.dashboard.page_context import PageContext
from bit_transformer.server.dashboard.poller import Snapshot

_UPLOADS = {"push": "run with training state", "save_checkpoint": "model only"}
_DOWNLOADS = {"pull": "run with training state", "download_checkpoint": "model only"}


def draw_models(page: PageContext) -> None:
    """Draw the tab: a card for each task."""
    with ui.element("div").classes("bt-split bt-halves"):
        with card("Quantize", "Stores the weights in 8 or 4 bits instead of 32, for inference."):
            quantize = _draw_quantization(page)
        with card("Warm the context mixer", "The mixer learns files, for prompts that mix."):
            warm = _draw_warming(page)
        with card("Upload to the hub", "The upload includes a model card with results.") as upload:
            push = _draw_hub(page, "push", _UPLOADS, "cloud_upload", "Upload")
        with card("Download from the hub", "Use the model, or continue its training.") as download:
            _draw_hub(page, "pull", _DOWNLOADS, "cloud_download", "Download")
        with card("Hub") as no_hub:
            empty("cloud_off", "Install bit-transformer[hub] on the server to use the hub.")

    def show(now: Snapshot) -> None:
        quantize.set_options("run", now.run_names())
        quantize.set_options("file", now.file_names())
        warm.set_options("run", now.run_names())
        warm.set_options("files", now.file_names())
        schemes = quantize.fields["to"].options
        if now.status is not None:
            quantize.set_options("to", [one for one in schemes if now.features.get(one, True)])
        push.set_options("run", now.run_names())
        has_hub = bool(now.features.get("hub", now.status is None))
        upload.set_visibility(has_hub)
        download.set_visibility(has_hub)
        no_hub.set_visibility(not has_hub)

    page.on_snapshot.append(show)
    for form in (quantize, warm, push):
        page.on_run.append(partial(form.set, "run"))


def _draw_quantization(page: PageContext) -> Form:
    form = page.form("quantize")

    async def start() -> None:
        if await page.submit("quantize", form):
            form.set("out", None)

    form.field("run", choices=())
    form.field("to")
    form.field("out")
    form.field("file", choices=())
    form.error_area()
    with ui.row().classes("bt-actions"):
        button("Quantize", "compress", start, main=True)
    return form


def _draw_warming(page: PageContext) -> Form:
    form = page.form("warm")

    async def start() -> None:
        if await page.submit("warm", form):
            form.set("files", [])

    form.field("run", choices=())
    form.field("files", choices=())
    form.field("append")
    form.field("table_bits")
    form.error_area()
    with ui.row().classes("bt-actions"):
        button("Warm", "school", start, main=True)
    return form


def _draw_hub(
    page: PageContext, operation: str, kinds: dict[str, str], icon: str, text: str
) -> Form:
    form = page.form(operation)

    async def start() -> None:
        await page.submit(content.value, form)

    form.field("repo")
    form.field("run", choices=() if operation == "push" else None)
    form.field("token")
    form.remaining_fields("")
    content = ui.select(kinds, label="Content", value=operation)
    content.props("outlined dense stack-label").classes("w-full")
    form.error_area()
    with ui.row().classes("bt-actions"):
        button(text, icon, start, main=True)
    return form
