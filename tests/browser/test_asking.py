"""Generation in a glass box, attention, long sequences; the review queue; files."""

import re
from typing import Any

import pytest

from tests.browser.conftest import TEXT, Open, World, fill, shown, tab, until


def generated(page: Any) -> Any:
    """The bytes of the glass box."""
    return page.locator(".bt-inspector [data-i]")


def test_generate_in_a_glass_box(open_page: Open) -> None:
    page = open_page()
    tab(page, "Ask")
    fill(page, "Prompt", "to be or ")
    fill(page, "New bytes", "40")
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("40 bytes in").wait_for()
    assert generated(page).count() == 40
    assert page.locator('svg[aria-label^="Bit tree"]').count() == 1
    chosen = page.locator('.bt-inspector [aria-pressed="true"]')
    assert chosen.count() == 1
    generated(page).nth(3).click()
    page.get_by_role("heading", name="Byte 4:").wait_for()
    page.keyboard.press("Tab")
    generated(page).nth(3).focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="Byte 5:").wait_for()
    words = page.locator('svg[aria-label^="Bit tree"]').get_attribute("aria-label")
    assert words.count("bit ") == 8
    assert page.get_by_text("drawn", exact=True).count() <= 1
    page.get_by_role("button", name="Look inside this text").click()
    attention = page.get_by_role("img", name="Attention of head 1, a heat map")
    attention.wait_for()
    assert shown(page).get_by_label("Text").input_value().startswith("to be or ")
    assert page.locator(".bt-byte").count() >= len("to be or ") + 40


def test_generate_under_the_gate(open_page: Open) -> None:
    page = open_page()
    tab(page, "Ask")
    fill(page, "New bytes", "8")
    page.get_by_role("switch", name="Under the safety gate").click()
    page.get_by_role("button", name="Generate").click()
    words = shown(page).locator("[role=status], [role=alert]")
    until(lambda: any("gate" in text for text in words.all_inner_texts()))


def test_read_a_long_sequence(open_page: Open) -> None:
    page = open_page()
    tab(page, "Ask")
    page.get_by_role("tab", name="Read a long sequence").click()
    shown(page).get_by_label("Text").locator("visible=true").fill("to be or not to be " * 20)
    page.get_by_role("button", name="Read", exact=True).click()
    page.get_by_text("3,040 bits in").wait_for()


def test_approve_and_reject(open_page: Open, world: World) -> None:
    page = open_page()
    tab(page, "Review")
    review = world.runs / ".server" / "review"
    items = page.locator(".bt-run").filter(has_text="is below its floor").locator("visible=true")
    until(lambda: items.count() == 2)
    items.first.click()
    page.get_by_text(re.compile("(first|second) output")).wait_for()
    page.get_by_role("button", name="Approve", exact=True).click()
    until(lambda: items.count() == 1)
    assert len(list((review / "approved").iterdir())) == 1
    items.first.click()
    page.get_by_role("button", name="Reject", exact=True).wait_for()
    page.get_by_role("button", name="Reject", exact=True).click()
    until(lambda: items.count() == 0)
    page.get_by_text("(rejected: not shown)").wait_for()
    assert len(list((review / "rejected").iterdir())) == 1
    assert not list((review / "pending").iterdir())


def test_files_come_and_go(open_page: Open, world: World) -> None:
    page = open_page()
    tab(page, "Files")
    content = b"some bytes \x00\xff" * 50
    part = shown(page)
    part.locator("input[type=file]").set_input_files(
        {"name": "../my file!.bin", "mimeType": "x/y", "buffer": content}
    )
    part.get_by_text("my_file_.bin", exact=True).wait_for()
    assert (world.runs / ".server" / "files" / "my_file_.bin").read_bytes() == content
    with page.expect_download() as coming:
        part.get_by_role("link", name="Download my_file_.bin").click()
    assert coming.value.path().read_bytes() == content
    part.get_by_role("button", name="Remove my_file_.bin").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    part.get_by_text("my_file_.bin", exact=True).wait_for(state="detached")


@pytest.mark.slow
def test_compress_and_decompress(open_page: Open, world: World) -> None:
    page = open_page()
    tab(page, "Files")
    files = world.runs / ".server" / "files"
    for operation, name in (("Compress", "text"), ("Decompress", "text.btz")):
        box = shown(page).locator(
            ".bt-card", has=page.get_by_role("heading", name=operation, exact=True)
        )
        box.get_by_label("File").click()
        page.get_by_role("option", name=name, exact=True).click()
        box.get_by_role("button", name=operation).click()
        page.get_by_text(f"{operation} is done").wait_for()
    assert (files / "text.out").read_bytes() == TEXT
    assert len((files / "text.btz").read_bytes()) < len(TEXT) / 20


@pytest.mark.slow
def test_quantize(open_page: Open, world: World) -> None:
    page = open_page()
    tab(page, "Models")
    box = shown(page).locator(".bt-card", has=page.get_by_role("heading", name="Quantize"))
    box.get_by_role("button", name="Quantize").click()
    box.get_by_text("is needed").wait_for()
    box.get_by_label("New name").fill("smaller")
    box.get_by_role("button", name="Quantize").click()
    page.get_by_text("Quantize: smaller is done").wait_for()
    assert (world.runs / "smaller" / "manifest.json").exists()
