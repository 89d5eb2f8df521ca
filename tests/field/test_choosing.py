"""The viewer where there are several broadcasters."""

import asyncio
from pathlib import Path

import pytest
from calls import PICTURE, running
from playwright.async_api import async_playwright

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.field,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}"),
]


async def choose(address: str, name: str) -> tuple[list[str], str]:
    """Choose a broadcaster; give what there was to choose from, and the address after that."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
        )
        page = await browser.new_page()
        await page.goto(address)
        choice = page.locator("#choice")
        await choice.wait_for()
        listed = await choice.locator("option").all_text_contents()
        await choice.select_option(name)
        await page.locator("#name", has_text=name).wait_for()
        shown = page.url
        await browser.close()
        return listed, shown


def test_the_viewer_has_a_list_to_choose_from() -> None:
    with running("broadcast", *PICTURE, "--serve", "0", "--name", "one") as one:
        ready = one.next("ready")
        with running("broadcast", *PICTURE, "--url", ready["url"], "--name", "two") as two:
            two.next("ready")
            listed, shown = asyncio.run(choose(ready["viewer"], "two"))
    assert listed[0] == "Any broadcaster"
    assert sorted(listed[1:]) == ["one", "two"]
    assert shown == f"{ready['viewer']}?from=two"
