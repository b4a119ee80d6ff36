"""The page at ``/`` in a real Chromium: `make test-page` sets it up."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from support.server import Server

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: make test-page"
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DONE = '#state:text("Complete")'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as work:
        try:
            found = work.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        except sync_api.Error:
            pytest.skip("there is no Chromium: make test-page")
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The open page; at the end, no script may have failed and no address been refused."""
    found = browser.new_page(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("console", lambda line: faults.append(line.text) if "Policy" in line.text else None)
    found.goto(server.url)
    found.wait_for_selector("#samples button")
    yield found
    found.close()
    assert faults == []


def test_a_sample_is_routed_answered_and_drawn(page: Any) -> None:
    page.click('#samples [data-sample="0014"]')
    page.press("#instruction", "Control+Enter")
    page.wait_for_selector(DONE)
    assert (page.inner_text("#chosen"), page.inner_text("#badge")) == ("calendar", "routed")
    assert page.locator("#bars li").count() == 3
    assert page.locator("#marks .mark").count() == 1
    mark, picture = (page.locator(name).bounding_box() for name in ("#marks .mark", "#picture"))
    x = (mark["x"] + mark["width"] / 2 - picture["x"]) / picture["width"]
    y = (mark["y"] + mark["height"] / 2 - picture["y"]) / picture["height"]
    assert (x, y) == pytest.approx((0.270, 0.392), abs=0.02)


def test_the_choice_can_be_overruled(page: Any) -> None:
    page.click('#samples [data-sample="0014"]')
    page.click("#send")
    page.wait_for_selector(DONE)
    page.click('#instead [data-model="claim-window"]')
    page.wait_for_selector('#badge:text("overruled")')
    page.wait_for_selector(DONE)
    assert page.inner_text("#chosen") == "claim-window"
    assert page.locator("#history button").count() == 2


def test_an_abstention_is_explained(page: Any) -> None:
    page.click('#samples [data-sample="0122"]')
    page.click("#send")
    page.wait_for_selector('#badge:text("abstained")')
    assert "threshold" in page.inner_text("#verdict")


def test_a_phone(browser: Any, server: Server) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page.goto(server.url)
    page.wait_for_selector("#samples button")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
