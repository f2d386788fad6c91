"""A person decides about output that the safety gate withheld."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from bit_transformer.atomic import is_written_into, write_output
from bit_transformer.cli.output import print_json, print_table
from bit_transformer.cli.parsing import parse
from bit_transformer.cli.streams import ByteOutput, shown_name, shown_text
from bit_transformer.errors import ConfigError, ReviewError
from bit_transformer.safety.review import STATES, ReviewItem, ReviewQueue, State

Action = Literal["list", "show", "approve", "reject"]
_SHOWN_BYTES = 60


@dataclass(frozen=True)
class ReviewArguments:
    """List, show, approve or reject output that the safety gate withheld.

    Approving an item prints its output, or writes it to --out. Each item is decided once, and
    rejected output is never released.
    """

    action: Annotated[Action, tyro.conf.Positional] = "list"
    """One of list, show, approve and reject."""
    item: Annotated[str | None, tyro.conf.Positional] = None
    """Identity of an item, as `review list` prints it."""
    queue: Path = Path("review")
    """Folder of the review queue."""
    state: State = "pending"
    """State of the items to list."""
    out: Path | None = None
    """New file for the approved output."""
    json: bool = False
    """Print the result as JSON."""


def run(words: Sequence[str]) -> None:
    """Run the command."""
    arguments = parse(ReviewArguments, words, command="review")
    queue = ReviewQueue(arguments.queue)
    if arguments.action == "list":
        _list(queue, arguments)
        return
    if arguments.item is None:
        raise ConfigError(
            f"review {arguments.action} needs the identity of an item; see review list"
        )
    if arguments.action == "show":
        _show(queue.show(arguments.item), queue.state_of(arguments.item), json=arguments.json)
    elif arguments.action == "reject":
        queue.reject(arguments.item)
        print(f"rejected {shown_name(arguments.item)}")
    else:
        _approve(queue, arguments.item, arguments.out)


def _list(queue: ReviewQueue, arguments: ReviewArguments) -> None:
    items: list[dict[str, Any]] = []
    for identity in queue.identities(arguments.state):
        try:
            items.append(_summary(queue.show(identity)))
        except ReviewError as error:
            items.append({"item": identity, "bytes": 0, "reasons": [str(error)], "begins": ""})
    if arguments.json:
        print_json(items)
        return
    rows = [
        (item["item"], str(item["bytes"]), "; ".join(item["reasons"]), item["begins"])
        for item in items
    ]
    counts = ", ".join(f"{len(queue.identities(state))} {state}" for state in STATES)
    title = f"{shown_name(arguments.queue)}: {counts}"
    print_table(title, ("item", "bytes", "reasons", "begins"), rows)


def _summary(item: ReviewItem) -> dict[str, Any]:
    begins = shown_text(item.as_bytes(item.output)[:_SHOWN_BYTES].replace(b"\n", b" "))
    return {
        "item": item.identity,
        "bytes": len(item.as_bytes(item.output)),
        "reasons": list(item.reasons),
        "begins": begins,
    }


def _show(item: ReviewItem, state: State, *, json: bool) -> None:
    prompt, output = (item.as_bytes(bits) for bits in (item.prompt, item.output))
    if json:
        facts = {"state": state, "created": item.created, "telemetry": dict(item.telemetry)}
        texts = {"prompt": prompt.decode(errors="replace")}
        texts |= {"output": output.decode(errors="replace")}
        texts |= {"output_base64": base64.b64encode(output).decode()}
        print_json({**_summary(item), **facts, **texts})
        return
    print(f"{item.identity}, {state}, withheld {item.created}")
    for reason in item.reasons:
        print(f"  {reason}")
    for name, value in dict(item.telemetry.get("readings", {})).items():
        print(f"  {name} = {value:.4g}")
    for name, bits, content in (
        ("prompt", item.prompt, prompt),
        ("output", item.output, output),
    ):
        print(f"\n{name}, {len(bits)} bits:\n{shown_text(content, lines=True)}")


def _approve(queue: ReviewQueue, identity: str, out: Path | None) -> None:
    if out is not None and out.exists() and not is_written_into(out):
        raise ConfigError(
            f"{shown_name(out)} exists already, and nothing was released; name a new file"
        )
    output = ByteOutput() if out is None else None
    item = queue.approve(identity)
    content = item.as_bytes(item.output)
    if out is not None:
        write_output(out, content)
    if output is not None:
        output.write(content)
        output.end()
