"""A headless Chromium, driven through its DevTools protocol over a pipe: no port, no library.

Used by the tests of the report's page and by `bench.report`. Source: `--remote-debugging-pipe`, messages end with a zero byte.
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ANSWER_WITHIN_S = 60.0


def find_chromium() -> str | None:
    """Return the path of a Chromium; None if there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Page:
    """The one tab of a browser."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        """What the browser has reported by itself."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Performance.enable", timeDomain="threadTicks")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        answer = self._receive(lambda one: one.get("id") == self._number)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path) -> float:
        """Load a file; return the seconds until it was loaded, its charts drawn, and a frame of it painted."""
        self.events.clear()
        started = time.monotonic()
        self.call("Page.navigate", url=path.absolute().as_uri())
        self._receive(lambda one: one.get("method") == "Page.loadEventFired")
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        return time.monotonic() - started

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page; of a promise what it resolves to."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def busy_s(self) -> float:
        """Return how much processor time the page's own thread has used since the page was opened."""
        found = self.call("Performance.getMetrics")["metrics"]
        return next(float(one["value"]) for one in found if one["name"] == "TaskDuration")

    def use_dark(self, is_dark: bool) -> None:
        """Let the page believe that the user prefers dark or light."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Set the size of the window."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def screenshot(self, path: Path) -> None:
        """Write a picture of the window."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def problems(self) -> list[str]:
        """Return the errors and warnings that the page has caused since it was opened: console, exceptions, policy."""
        found = []
        for event in self.events:
            parameters = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(parameters["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(json.dumps(parameters["args"]))
            elif event["method"] == "Log.entryAdded":
                found.append(parameters["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Return the addresses that the page has asked for since it was opened."""
        return [
            one["params"]["request"]["url"]
            for one in self.events
            if one["method"] == "Network.requestWillBeSent"
        ]

    def _receive(self, is_wanted: Any) -> dict[str, Any]:
        """Return the first message that is wanted; all others are kept."""
        for position, event in enumerate(self.events):
            if is_wanted(event):
                return self.events.pop(position)
        deadline = time.monotonic() + ANSWER_WITHIN_S
        while True:
            while b"\0" not in self._buffer:
                left = deadline - time.monotonic()
                assert left > 0, f"Chromium has not answered within {ANSWER_WITHIN_S:g} s"
                if select.select([self._answers], [], [], left)[0]:
                    block = os.read(self._answers, 1 << 20)
                    assert block, "Chromium has ended"
                    self._buffer += block
            text, _, self._buffer = self._buffer.partition(b"\0")
            message: dict[str, Any] = json.loads(text)
            if is_wanted(message):
                return message
            if "method" in message:
                self.events.append(message)


@contextmanager
def chromium_page(program: str) -> Iterator[Page]:
    """Start a browser, and end it with all its processes. As root it has no sandbox: it only opens files of ours."""
    profile = tempfile.mkdtemp(prefix="sflow-chromium-")
    orders, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    command = [
        *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
        *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update"),
        *("--disable-extensions", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"),
    ]

    def place() -> None:
        low, high = os.dup(orders), os.dup(answers)
        while low < 5 or high < 5:
            low, high = (os.dup(one) if one < 5 else one for one in (low, high))
        os.dup2(low, 3)  # the browser reads orders from 3 and answers to 4
        os.dup2(high, 4)

    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=place,
        start_new_session=True,
    )
    os.close(orders)
    os.close(answers)
    try:
        yield Page(to_browser, from_browser)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(to_browser)
        os.close(from_browser)
        shutil.rmtree(profile, ignore_errors=True)
