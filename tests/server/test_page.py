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
        found = work.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
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


SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# Text that its box cuts off, and text too faint to read (WCAG 2.2: 4.5 to 1).
CUT = """() => [...document.querySelectorAll("button, dd, dt, .badge, .bars .value, .verdict")]
  .filter((each) => each.offsetParent && each.scrollWidth > each.clientWidth + 1
    && getComputedStyle(each).display !== "inline")
  .map((each) => each.textContent)"""
FAINT = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (each) => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("h1 span, h2, h3, p, dt, dd, button, label, .value, pre")]
    .filter((each) => each.offsetParent && each.innerText.trim())
    .map((each) => {
      const [a, b] = [light(getComputedStyle(each).color), light(behind(each))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), each.innerText];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_state_is_readable(browser: Any, server: Server, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    page.goto(server.url)
    page.wait_for_selector("#samples button")

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT) == []
        assert page.evaluate(FAINT) == []

    check()
    page.click("#send")
    page.wait_for_selector("#error:visible")
    check()
    for sample, badge in (("0014", "routed"), ("0122", "abstained")):
        page.click(f'#samples [data-sample="{sample}"]')
        page.click("#send")
        page.wait_for_selector(f'#badge:text("{badge}")')
        page.wait_for_selector(DONE)
        check()
    page.click('#instead [data-model="calendar"]')
    page.wait_for_selector('#badge:text("overruled")')
    page.wait_for_selector(DONE)
    check()
    page.close()


def test_the_keyboard_alone(page: Any) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                break
        else:
            raise AssertionError(f"Tab never comes to {selector}")
        # Where one is can be seen.
        style = "getComputedStyle(document.activeElement)"
        assert page.evaluate(f"{style}.outlineStyle !== 'none' || {style}.boxShadow !== 'none'")

    tab_to('#samples [data-sample="0014"]')
    page.keyboard.press("Enter")
    tab_to("#instruction")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(DONE)
    assert page.inner_text("#chosen") == "calendar"
    tab_to('#instead [data-model="claim-window"]')
    page.keyboard.press("Enter")
    page.wait_for_selector('#badge:text("overruled")')
    page.wait_for_selector(DONE)
    tab_to("#history li:nth-child(2) button")
    page.keyboard.press("Enter")
    page.wait_for_selector('#badge:text("routed")')
    assert page.inner_text("#chosen") == "calendar"
