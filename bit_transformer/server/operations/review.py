"""Output that the safety gate held back, for a human to review."""

from typing import Any

from bit_transformer.errors import ConflictError, ReviewError, UnknownNameError
from bit_transformer.safety.review import ReviewItem, ReviewQueue, State
from bit_transformer.server.data_request import to_base64
from bit_transformer.server.operations.registry import Engine, direct
from bit_transformer.server.schemas import ItemIdentity, Request, Response


class ReviewRequest(Request):
    """Which items to list."""

    state: State = "pending"
    """Only items in this state."""


class ItemRequest(Request):
    """One item of the review queue."""

    item: ItemIdentity
    """Id of an item."""


class ItemSummary(Response):
    """Summary of an item."""

    item: str
    bytes: int
    """Bytes of the output that was held back."""
    reasons: list[str]
    """Why the output was held back, or why the item cannot be read."""


class Items(Response):
    """Items in one state, oldest first."""

    state: State
    items: list[ItemSummary]


class Item(Response):
    """Output that was held back, and why. Rejected output is never returned."""

    item: str
    state: State
    created: str
    """UTC time at which the output was held back."""
    reasons: list[str]
    telemetry: dict[str, Any]
    """Metrics that led to the refusal."""
    prompt: str
    output: str | None
    """Output as text. None if it was rejected."""
    output_base64: str | None


@direct("GET", "/review")
def list_review(engine: Engine, request: ReviewRequest) -> Items:
    """List output that the safety gate held back, by the decision about it."""
    queue = ReviewQueue(engine.workspace.review)
    items = [_summary(queue, identity) for identity in queue.identities(request.state)]
    return Items(state=request.state, items=items)


@direct("GET", "/review/{item}")
def show_review(engine: Engine, request: ItemRequest) -> Item:
    """Show one item: prompt, output, metrics and reasons."""
    queue = ReviewQueue(engine.workspace.review)
    state = _state(queue, request.item)
    return _item(queue.show(request.item), state)


@direct("POST", "/review/{item}/approve")
def approve(engine: Engine, request: ItemRequest) -> Item:
    """Release a pending item. An item can be decided only once."""
    queue = ReviewQueue(engine.workspace.review)
    _require_pending(queue, request.item)
    return _item(queue.approve(request.item), "approved")


@direct("POST", "/review/{item}/reject")
def reject(engine: Engine, request: ItemRequest) -> Item:
    """Reject a pending item. Its output is then never returned."""
    queue = ReviewQueue(engine.workspace.review)
    _require_pending(queue, request.item)
    return _item(queue.reject(request.item), "rejected")


def _state(queue: ReviewQueue, identity: str) -> State:
    try:
        return queue.state_of(identity)
    except ReviewError as error:
        raise UnknownNameError(
            f"there is no item {identity!r} in the review queue; GET /review lists them"
        ) from error


def _require_pending(queue: ReviewQueue, identity: str) -> None:
    state = _state(queue, identity)
    if state != "pending":
        raise ConflictError(f"item {identity} is {state} already; an item is decided once")


def _summary(queue: ReviewQueue, identity: str) -> ItemSummary:
    try:
        item = queue.show(identity)
    except ReviewError as error:
        return ItemSummary(item=identity, bytes=0, reasons=[str(error)])
    size = len(item.as_bytes(item.output))
    return ItemSummary(item=identity, bytes=size, reasons=list(item.reasons))


def _item(item: ReviewItem, state: State) -> Item:
    output = item.as_bytes(item.output)
    rejected = state == "rejected"
    return Item(
        item=item.identity,
        state=state,
        created=item.created,
        reasons=list(item.reasons),
        telemetry=dict(item.telemetry),
        prompt=item.as_bytes(item.prompt).decode(errors="replace"),
        output=None if rejected else output.decode(errors="replace"),
        output_base64=None if rejected else to_base64(output),
    )


OPERATIONS = (list_review, show_review, approve, reject)
