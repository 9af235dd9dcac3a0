"""A headless Chromium driven by its DevTools protocol over a pipe: no driver and no package needed."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Escape": 27, "Tab": 9, "Enter": 13, " ": 32}  # fmt: skip


class Browser:
    """One page of a headless Chromium.

    Attributes:
        errors: uncaught errors, errors on the console, and what could not be loaded.
        requested: addresses that the page asked for.
    """

    def __init__(self, profile: Path) -> None:
        self.errors: list[str] = []
        self.requested: list[str] = []
        self._n_sent = 0
        self._session: str | None = None
        self._unread = b""
        child_reads, self._write = os.pipe()
        self._read, child_writes = os.pipe()
        # Out of the way of 3 and 4, the numbers that Chromium takes its pipes at.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (child_reads, child_writes)]
        for end in (child_reads, child_writes):
            os.close(end)

        def place() -> None:
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        options = ["--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--mute-audio",
                   "--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars",
                   f"--user-data-dir={profile}", *(["--no-sandbox"] if os.getuid() == 0 else [])]  # fmt: skip
        self._process = subprocess.Popen(
            [str(PATH), *options, "about:blank"],
            preexec_fn=place, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in ends:
            os.close(end)
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End the browser, by force if it does not go."""
        self._session = None
        try:
            self.send("Browser.close")
            self._process.wait(10)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        for end in (self._read, self._write):
            os.close(end)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._n_sent += 1
        number = self._n_sent
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            told = self._next(600.0)
            if told.get("id") == number:
                assert "error" not in told, told["error"]
                return dict(told["result"])

    def _next(self, seconds: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], seconds)
            assert ready, f"Chromium has not answered for {seconds} s"
            read = os.read(self._read, 1 << 20)
            assert read, "Chromium has ended"
            self._unread += read
        raw, _, self._unread = self._unread.partition(b"\0")
        told = dict(json.loads(raw))
        self._note(told.get("method", ""), told.get("params", {}))
        return told

    def _note(self, event: str, about: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and about["type"] in (
            "error",
            "warning",
            "assert",
        ):
            self.errors.append(" ".join(str(a.get("value", a)) for a in about["args"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.requested.append(about["request"]["url"])

    def open(self, address: str, *, width: int = 1280, height: int = 900, is_dark: bool = False) -> None:  # fmt: skip
        """Load a page in a window of a size and wait until it has drawn its curves."""
        self.send("Page.navigate", url="about:blank")  # the page before may still ask for news
        self.errors, self.requested = [], []
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = "dark" if is_dark else "light"
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
        self.send("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")
        self.settle()

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def settle(self) -> None:
        """Wait until what was asked to be drawn is drawn."""
        self.run("new Promise(d => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(d))))")  # fmt: skip

    def wait_for(self, script: str, seconds: float = 120.0) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"not so after {seconds} s: {script}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click the middle of an element, as a mouse does."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y)
        self.settle()

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll to an element and return where its middle is."""
        found = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        return found[0], found[1]

    def mouse(self, kind: str, x: float, y: float) -> None:
        """mousePressed, mouseMoved or mouseReleased at a place."""
        held = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        code = KEYS.get(key, ord(key[0].upper()))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        about = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))  # fmt: skip
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)
        self.settle()

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        raw = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(raw))
