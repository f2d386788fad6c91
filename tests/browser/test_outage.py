"""The management server stops and starts again."""

from tests.browser.conftest import Open, World, fill, shown, tab, until


def test_a_banner_is_shown_and_input_is_kept(open_page: Open, world: World) -> None:
    page = open_page()
    tab(page, "Train")
    fill(page, "Run", "typed-before")
    world.stop_server()
    try:
        banner = page.locator(".bt-banner")
        banner.wait_for()
        fill(page, "Steps", "123")
        page.get_by_role("button", name="Start training").click()
        until(lambda: shown(page).get_by_text("no management server answers").count())
    finally:
        world.start_server()
    banner.wait_for(state="hidden")
    assert shown(page).get_by_label("Run", exact=True).input_value() == "typed-before"
    assert shown(page).get_by_label("Steps", exact=True).input_value() == "123"
    assert page.get_by_text("connected, ").is_visible()
