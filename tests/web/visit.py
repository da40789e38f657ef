"""A page in a real browser, for tests that use it as a person would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lxcompress.rundir import RunDir
from lxcompress.web.inbox import find_page_run, keep_measurement
from lxcompress.web.records import PageMeasurement
from lxcompress.web.server import PageServer
from tests.life.test_browser import Browser

PHONE, SMALL_PHONE, DESK = (390, 844), (360, 740), (1400, 900)
QUESTION = "what color is the large thing?"
WAIT_MS = 30_000
PAGE_STUBS = """window.said = [];
speechSynthesis.speak = (spoken) => window.said.push([spoken.text, spoken.lang]);
window.webkitSpeechRecognition = class {
  start() { setTimeout(() => { this.onerror({ error: "not-allowed" }); this.onend(); }); }
};"""
"""Keeps what the page says aloud, and denies the microphone: a headless browser has neither voice nor microphone."""

FIND_FAULTS = """(() => {
  const faults = [], { clientWidth: width, scrollWidth: page } = document.documentElement;
  if (page > width) faults.push(`the page is ${page} wide`);
  for (const control of document.querySelectorAll("button, select, summary, input[type=text], .choice")) {
    const box = control.getBoundingClientRect();
    if (box.height && box.height < 44) faults.push(`${control.id || control.className} is ${box.height} high`);
    if (box.width && (box.left < -1 || box.right > width + 1)) faults.push(`${control.id} sticks out`);
  }
  return faults;
})()"""


@dataclass
class Visit:
    """A page that is served, in a browser."""

    browser: Browser
    page: Path
    run: RunDir
    token: str = "secret"
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        run = find_page_run(self.page)
        assert run == self.run
        self.server = PageServer(self.page, self.token, self._keep).open("127.0.0.1", 0)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def _keep(self, found: PageMeasurement) -> str:
        keep_measurement(found, self.run)
        return "saved"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{self.token}/"

    def load(self, size: tuple[int, int] = PHONE, *, scheme: str = "light", query: str = "") -> None:
        """Open the page, and wait until it is ready or says what is broken."""
        self.browser.visit(self.url + query, *size, scheme=scheme)
        self.until("!document.getElementById('answer-it').disabled || document.getElementById('problem').textContent")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        code = f"""new Promise((resolve, reject) => {{
          const end = Date.now() + {WAIT_MS};
          const look = () => {{
            const found = {expression};
            if (found) resolve(found);
            else if (Date.now() > end) reject(new Error("too late"));
            else setTimeout(look, 20);
          }};
          look();
        }})"""
        found = self.browser.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, (expression, self.text("problem"), self.text("measure-state"))
        return found["result"]["value"]

    def text(self, id_: str) -> str:
        return self.browser.value(f"document.getElementById({id_!r}).innerText")

    def click(self, id_: str) -> None:
        self.browser.value(f"document.getElementById({id_!r}).click()")

    def ask(self, question: str) -> str:
        self.browser.value(f"document.getElementById('question').value = {json.dumps(question)}")
        self.browser.value("document.getElementById('answer').replaceChildren()")
        self.click("answer-it")
        return self.until("document.getElementById('answer').innerText")

    def wait_for_measurement(self) -> None:
        """Wait until the page has measured, and shows the result."""
        self.until("!document.getElementById('finish').hidden && document.getElementById('measuring').hidden")

    def open_details(self) -> None:
        """Show the parts of the page that are folded."""
        self.browser.value("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    def choose(self, id_: str, value: str) -> None:
        """Choose an option of a list as a person would."""
        self.browser.value(f"document.getElementById({id_!r}).value = {json.dumps(value)}")
        self.browser.value(f"document.getElementById({id_!r}).dispatchEvent(new Event('change'))")

    def press(self, key: str, text: str = "") -> None:
        code = {"Tab": 9, "Enter": 13}.get(key, 0)
        more = {"key": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
        self.browser.ask("Input.dispatchKeyEvent", type="keyDown", **more)
        self.browser.ask("Input.dispatchKeyEvent", type="keyUp", **more)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def find_package(name: str, variable: str, *inside: str) -> Path:
    """Return a path in a package of npm: the one in an environment variable, or in npm's global packages."""
    npm = shutil.which("npm")
    root = subprocess.run([npm, "root", "-g"], capture_output=True, text=True).stdout.strip() if npm else ""
    path = Path(os.environ.get(variable) or Path(root).joinpath(name, *inside))
    if not path.exists():
        pytest.skip(
            f"{name} is not installed: npm install --global {name}, or give its {'/'.join(inside)} as {variable}"
        )
    return path
