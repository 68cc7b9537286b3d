"""The unsubscribe page in a real browser. Skipped, loudly, where there is no Chromium."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.gateway.test_gateway import TOKEN, environment, events
from tests.kit.browser import Browser, find_browser
from tests.kit.gateway import GatewayProcess
from tests.kit.harness import Harness

_PATH = find_browser()
if _PATH is None:
    warnings.warn(
        "there is no Chromium: the unsubscribe page is not tested in a browser; install `chromium`",
        stacklevel=1,
    )
pytestmark = [
    pytest.mark.skipif(_PATH is None, reason="there is no Chromium"),
    pytest.mark.slow,
]


@pytest.fixture
def gateway(harness: Harness) -> Iterator[GatewayProcess]:
    own = {
        "STREAMER_GATEWAY__NAMES": f'{{"acme": "{"Acme Garden Tools and Seeds Ltd. " * 3}"}}',
        "STREAMER_GATEWAY__COLORS": '{"acme": "#ffcc00"}',
    }
    with GatewayProcess(environment(harness, **own)) as process:
        yield process


@pytest.mark.parametrize("has_javascript", [True, False])
def test_the_page_reads_unsubscribes_and_undoes(
    harness: Harness, gateway: GatewayProcess, tmp_path: Path, has_javascript: bool
) -> None:
    with Browser(_PATH or "", tmp_path / "profile", has_javascript=has_javascript) as browser:
        browser.open(f"{gateway.url}/u/{TOKEN}")
        browser.wait_for(lambda: "Unsubscribe?" in browser.text(), "asked")
        assert "Acme Garden Tools" in browser.text()
        assert events(harness) == []
        browser.click("button")
        browser.wait_for(lambda: "You are unsubscribed" in browser.text(), "unsubscribed")
        # By keyboard alone.
        browser.press("Tab", 9)
        assert browser.evaluate("document.activeElement.tagName") == "BUTTON"
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r")
        browser.wait_for(lambda: "You stay subscribed" in browser.text(), "undone")
        browser.click("button")
        browser.wait_for(lambda: "You are unsubscribed" in browser.text(), "unsubscribed")
    types = [each.type for each in sorted(events(harness), key=lambda each: each.occurred_at)]
    assert types == ["unsubscribed", "resubscribed", "unsubscribed"]


def test_axe_finds_nothing_wrong(gateway: GatewayProcess, tmp_path: Path) -> None:
    with Browser(_PATH or "", tmp_path / "profile", width=360) as browser:
        browser.open(f"{gateway.url}/u/x")
        browser.wait_for(lambda: "does not work" in browser.text(), "refused")
        assert browser.violations() == []
        browser.open(f"{gateway.url}/u/{TOKEN}")
        browser.wait_for(lambda: "Unsubscribe?" in browser.text(), "asked")
        assert browser.violations() == []
        browser.evaluate("document.documentElement.lang = ''")
        assert browser.violations() == ["html-has-lang serious"]
        browser.click("button")
        browser.wait_for(lambda: "You are unsubscribed" in browser.text(), "unsubscribed")
        assert browser.violations() == []


def test_the_page_fits_a_narrow_screen(gateway: GatewayProcess, tmp_path: Path) -> None:
    with Browser(_PATH or "", tmp_path / "profile", width=360) as browser:
        for path in (f"/u/{TOKEN}", "/u/x"):
            browser.open(f"{gateway.url}{path}")
            browser.wait_for(lambda: bool(browser.evaluate("!!document.querySelector('h1')")), "up")
            assert browser.evaluate("document.documentElement.scrollWidth") == 360
            assert browser.evaluate("document.documentElement.lang") == "en"
            assert browser.evaluate("document.querySelectorAll('h1').length") == 1
        browser.open(f"{gateway.url}/u/{TOKEN}")
        browser.wait_for(lambda: "Unsubscribe?" in browser.text(), "asked")
        # The style applies, so the policy allows it; and a thumb finds the button.
        height = browser.evaluate("document.querySelector('button').getBoundingClientRect().height")
        assert isinstance(height, int | float)
        assert height >= 44
        color = "getComputedStyle(document.querySelector('button')).backgroundColor"
        assert browser.evaluate(color) == "rgb(255, 204, 0)"
        if folder := os.environ.get("SCREENSHOTS"):
            browser.screenshot(Path(folder, "unsubscribe.png"))
