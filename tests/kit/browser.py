"""Chromium without a window, driven over a pipe by its DevTools protocol.

The protocol needs no driver and no library: messages are JSON, ended by a zero byte.
"""

import base64
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE_S = 60.0
_AXE = files("axe_core_python") / "axe.min.js"

Reply = dict[str, Any]  # as the protocol has it


def find_browser() -> str | None:
    """Return the browser's path; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a browser of its own.

    Args:
        path: the browser.
        profile: a folder for its data.
        has_javascript: whether scripts may run.
        width: of the window, in pixels.
    """

    def __init__(
        self, path: str, profile: Path, *, has_javascript: bool = True, width: int = 1_000
    ) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        self._process = subprocess.Popen(
            [
                *("bash", "-c", 'exec 3<&"$0" 4>&"$1"; shift 1; exec "$@"'),
                *(str(to_browser), str(from_browser), path, "--headless=new", "--no-sandbox"),
                *("--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
                *("--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._rest = b""
        targets = self.call("Target.getTargets", session=None)["targetInfos"]
        page = next(each for each in targets if each["type"] == "page")
        attached = self.call(
            "Target.attachToTarget", session=None, targetId=page["targetId"], flatten=True
        )
        self._session: str = attached["sessionId"]
        self.call("Page.enable")
        size: dict[str, Any] = {
            "width": width,
            "height": 800,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        }
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setScriptExecutionDisabled", value=not has_javascript)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, url: str) -> None:
        """Show a page."""
        self.call("Page.navigate", url=url)

    def text(self) -> str:
        """Return the text that is shown."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def evaluate(self, expression: str) -> object:
        """Evaluate an expression of the test; works without scripts of the page, too."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return reply.get("result", {}).get("value")

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        where = self.evaluate(
            f"(() => {{ const r = document.querySelector({selector!r}).getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        )
        assert isinstance(where, list)
        for kind in ("mousePressed", "mouseReleased"):
            spot = {"x": where[0], "y": where[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **spot)

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page, as rule and impact."""
        self.evaluate(_AXE.read_text(encoding="utf-8"))
        expression = (
            "axe.run().then(found => found.violations.map(each => `${each.id} ${each.impact}`))"
        )
        reply = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        found: list[str] = reply["result"]["value"]
        return found

    def screenshot(self, path: Path) -> None:
        """Write what is shown as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not {what}: {self.text()!r}"
            time.sleep(0.05)

    def call(self, method: str, session: str | None = "", **params: object) -> Reply:
        """Call a method of the protocol."""
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._out, orjson.dumps(message) + b"\0")
        while True:
            reply = orjson.loads(self._read())
            if reply.get("id") == number:
                assert "error" not in reply, f"{method}: {reply}"
                result: Reply = reply["result"]
                return result

    def _read(self) -> bytes:
        while b"\0" not in self._rest:
            piece = os.read(self._in, 1 << 16)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return message
