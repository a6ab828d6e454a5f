"""A headless Chromium, asked through the pipe of its DevTools: no driver and no package is needed beside it.

``python tests/report/browser.py PAGE FOLDER`` makes pictures of a page at both widths, with and without scripts.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120.0  # seconds
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """Where it is; None: nowhere."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a Chromium.

    Attributes
    ----------
    events : list of dict
        All that it has told since it opened.
    """

    def __init__(self, profile: Path) -> None:
        program = chromium()
        assert program is not None
        to_it, ours_out = os.pipe()
        ours_in, from_it = os.pipe()
        # It reads from its descriptor 3 and writes to 4.
        command = f'exec "$0" "$@" 3<&{to_it} 4>&{from_it}'
        arguments = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, *arguments], pass_fds=(to_it, from_it), stderr=subprocess.DEVNULL
        )
        os.close(to_it)
        os.close(from_it)
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        targets = self.ask("Target.getTargets")["targetInfos"]
        (page,) = (one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        question = {"id": number, "method": method, "params": arguments}
        if self._session is not None:
            question["sessionId"] = self._session
        os.write(self._out, json.dumps(question).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == number:
                assert "error" not in told, told["error"]
                return dict(told["result"])

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            assert ready, "Chromium does not answer"
            found = os.read(self._in, 2**20)
            assert found, "Chromium has ended"
            self._buffer += found
        message, _, self._buffer = self._buffer.partition(b"\0")
        told = dict(json.loads(message))
        if "method" in told:
            self.events.append(told)
        return told

    def open(self, page: Path, width: int = 1280, height: int = 800, scripts: bool = True) -> float:
        """Open a file; the seconds until it had been loaded and drawn."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.events.clear()
        started = time.perf_counter()
        self.ask("Page.navigate", url=page.resolve().as_uri())
        while not any(one["method"] == "Page.loadEventFired" for one in self.events):
            self._next()
        return time.perf_counter() - started

    def value(self, script: str) -> Any:
        """What a script comes to."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened, itself among them; not what it holds itself."""
        sent = (one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent")
        return [address for address in sent if not address.startswith("data:")]

    def complaints(self) -> list[dict[str, Any]]:
        """What stands on its console, and errors of scripts."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [one for one in self.events if one["method"] in kinds]

    def picture(self, path: Path, whole: bool = True) -> None:
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


def main() -> None:
    page, folder = map(Path, sys.argv[1:])
    folder.mkdir(exist_ok=True)
    with Browser(folder / "profile") as browser:
        for width, scripts in itertools.product((375, 1280), (True, False)):
            print(width, scripts, f"{browser.open(page, width, scripts=scripts):.2f} s", browser.complaints())
            time.sleep(1)
            browser.picture(folder / f"{width}-{'scripts' if scripts else 'plain'}.png")


if __name__ == "__main__":
    main()
