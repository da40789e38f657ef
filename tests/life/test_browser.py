"""The report in a real browser: nothing is fetched, nothing complains, nothing sticks out, nothing covers anything."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lxcompress.report.write import write_report
from lxcompress.rundir import RunDir, read_run
from tests.report.synthetic import (
    TENTHS,
    VQA,
    curve,
    gpu_usage,
    many,
    recipe,
    write_artifact,
    write_bench,
    write_run,
    write_twins,
)

pytestmark = pytest.mark.native
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Chromium's own protocol over two pipes, its descriptors 3 and 4: no port, and nothing to install.
LAUNCHER = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
SIZES = {"phone": (390, 844), "desk": (1400, 900)}
HOSTILE = "<script>alert(1)</script>"

# What a reader would call broken. Words are held against their own chart's edges and against the words beside them,
# with a pixel or two for what a font's box has above and below its letters.
FAULTS = """
(() => {
  const faults = [], width = document.documentElement.clientWidth;
  const page = document.documentElement.scrollWidth;
  if (page > width) faults.push(`the page is ${page} wide`);
  for (const chart of document.querySelectorAll("svg.chart")) {
    const frame = chart.getBoundingClientRect();
    if (!frame.width) continue;
    const words = [...chart.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    words.forEach(([text, box], index) => {
      const over = [frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom];
      if (Math.max(...over) > 1) faults.push(`"${text}" is cut`);
      if (box.height < 9) faults.push(`"${text}" is ${box.height} high`);
      for (const [other, its] of words.slice(index + 1)) {
        const across = Math.min(box.right, its.right) - Math.max(box.left, its.left);
        const down = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
        if (across > 1 && down > 4) faults.push(`"${text}" covers "${other}"`);
      }
    });
  }
  return faults;
})()
"""


class Browser:
    """A headless Chromium: opens pages, and remembers what they asked for and complained of."""

    def __init__(self, program: str, profile: Path) -> None:
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        command = [sys.executable, "-c", LAUNCHER, str(reads), str(writes), program, *FLAGS]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"], pass_fds=(reads, writes), start_new_session=True, **quiet
        )
        os.close(reads)
        os.close(writes)
        self._buffer = b""
        self._number = 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command; what happens meanwhile is kept as events."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._to, json.dumps(message | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        while (found := self._read()).get("id") != self._number:
            self.events.append(found)
        assert "error" not in found, f"{method}: {found}"
        return found["result"]

    def open(self, page: Path, width: int, height: int, *, scheme: str = "light") -> None:
        """Shows a file at a window's size, and waits until it is loaded."""
        self.visit(page.resolve().as_uri(), width, height, scheme=scheme)

    def visit(self, url: str, width: int, height: int, *, scheme: str = "light") -> None:
        """Shows what is at an address at a window's size, and waits until it is loaded."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        taken = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def happened(self, *methods: str) -> list[dict[str, Any]]:
        """The events of those kinds since the page was opened."""
        return [each["params"] for each in self.events if each.get("method") in methods]

    def close(self) -> None:
        """Ends the browser and all that it started."""
        self.session = None
        self.ask("Browser.close")
        self._process.wait(timeout=20)
        os.close(self._to)
        os.close(self._from)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser is installed here (looked for {', '.join(BROWSERS)})")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def _twins(root: Path) -> RunDir:
    run = write_run(root, recipe())
    write_twins(run, "low-magnitude-weight-50-seed0")
    return run


def _one_seed(root: Path) -> RunDir:
    run = write_run(root, recipe(seeds=(0,)))
    write_bench(run, "bench", [write_artifact(run, "dense-onnx", cell=None)])
    write_artifact(run, "low", cell="low-magnitude-weight-50-seed0", accuracy=None, unproven="it runs elsewhere only")
    return run


def _part(root: Path) -> RunDir:
    return write_run(root, recipe(), score=lambda cell: None if cell.seed == 2 and cell.sparsity > 0.6 else curve(cell))


def _hostile(root: Path) -> RunDir:
    run = write_run(root, recipe(), types=(HOSTILE, "$a_b$", 'a"b&c'))
    folder = write_artifact(run, "x", cell=None, twin=f"dense {HOSTILE}")
    write_bench(run, "bench", [folder], doubts={"x": [HOSTILE]})
    return run


RUNS = {
    "twins": _twins,
    "one seed": _one_seed,
    "unfinished": _part,
    "nothing yet": lambda root: write_run(root, recipe(), score=lambda cell: None),
    "many methods": lambda root: write_run(root, many(), usage=gpu_usage),
    "published": lambda root: write_run(
        root, recipe(data=VQA, sparsities=TENTHS, protocol="published"), questions=25_994
    ),
    "hostile": _hostile,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_report_is_whole_and_quiet_on_a_phone_and_on_a_desk(browser: Browser, tmp_path: Path, name: str) -> None:
    page = write_report(read_run(RUNS[name](tmp_path / "run").root))[0]
    for width, height in SIZES.values():
        browser.open(page, width, height)
        asked = [each["request"]["url"] for each in browser.happened("Network.requestWillBeSent")]
        assert asked == [page.resolve().as_uri()]
        assert browser.happened("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown") == []
        assert browser.value("document.querySelectorAll('script, link, img, iframe').length") == 0
        assert browser.value(FAULTS) == []
        browser.value("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert browser.value(FAULTS) == []


def test_what_is_broken_is_found(browser: Browser, tmp_path: Path) -> None:
    page = write_report(read_run(_twins(tmp_path / "run").root))[0]
    browser.open(page, *SIZES["desk"])
    shown = "[...document.querySelectorAll('figure.wide svg.chart text')]"
    browser.value(f"{shown}[0].setAttribute('x', -40)")
    browser.value(f"(texts => texts[2].setAttribute('x', texts[3].getAttribute('x')))({shown})")
    assert browser.value(FAULTS) == ['"40" is cut', '"60" covers "70"']
    browser.value("document.querySelector('h1').style.minWidth = '3000px'")
    assert "the page is" in browser.value(FAULTS)[0]


def test_a_chart_takes_the_colours_of_the_scheme(browser: Browser, tmp_path: Path) -> None:
    page = write_report(read_run(_twins(tmp_path / "run").root))[0]
    colour = "getComputedStyle([...document.querySelectorAll('svg.chart text')].find(each => each.textContent)).fill"
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(page, 1400, 900, scheme=scheme)
        seen[scheme] = browser.value(colour), browser.value("getComputedStyle(document.body).backgroundColor")
    assert seen["light"][0] != seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]
