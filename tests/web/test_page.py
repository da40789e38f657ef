"""The folder of a page: what it has, how small it is, and what it never has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lxcompress.catalog.extractors import describe_options
from lxcompress.errors import MeasureError
from lxcompress.records import FeatureOrigin
from lxcompress.rundir import RunDir, sha256
from lxcompress.web.page import list_files
from lxcompress.workflow.page import make_page
from lxcompress.writing import WriteError
from tests.measure.artifacts import build_artifact
from tests.models.families import PIXELS, TOYS, save_start
from tests.web.models import export_engine, write_extractor


@pytest.fixture(scope="module")
def tiny_engine(tiny_start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one layer that answers about scenes, as an engine file: only read it."""
    return export_engine(tiny_start, tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def page(tiny_engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "page"
    make_page([tiny_engine], out)
    return out


def test_a_page_has_its_files_under_their_checksums(page: Path, tiny_engine: Path) -> None:
    tree = json.loads((page / "page.json").read_text(encoding="utf-8"))
    files = [*tree["code"], *tree["engines"].values(), tree["models"][0]["file"], tree["models"][0]["vocabulary"]]
    for file in files:
        path = page / file["path"]
        assert (sha256(path), path.stat().st_size) == (file["sha256"], file["bytes"])
    assert {path.name for path in page.iterdir()} == {path.split("/")[0] for path in list_files(page)}
    assert tree["models"][0]["sha256"] == sha256(tiny_engine / "artifact.json")
    assert tree["models"][0]["reads"] == "scene"
    assert len(tree["examples"]) > 10
    assert len(tree["bench"]["lengths"]) == 100


def test_a_page_is_small_beside_its_models(page: Path) -> None:
    tree = json.loads((page / "page.json").read_text(encoding="utf-8"))
    models = {model["file"]["path"] for model in tree["models"]} | {file["path"] for file in tree["engines"].values()}
    assert sum((page / path).stat().st_size for path in list_files(page) if path not in models) < 150_000


def test_a_page_has_no_inline_code_and_asks_no_other_server(page: Path) -> None:
    html = (page / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script[^>]*>([^<]*)</script>", html) == [""]
    assert not re.search(r"\son[a-z]+=|\sstyle=|<style|javascript:", html)
    assert "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'" in html
    code = "".join(path.read_text(encoding="utf-8") for path in page.glob("code-*/*"))
    assert set(re.findall(r"https?://[^\s\"'`]+", html + code)) == {"http://www.w3.org/2000/svg"}


def test_every_text_of_the_page_is_in_both_languages(page: Path) -> None:
    (words,) = page.glob("code-*/words.js")
    english, persian = words.read_text(encoding="utf-8").split("const PERSIAN")
    keys = [set(re.findall(r'(?m)(?:^  |", )(\w+): "', part)) for part in (english, persian)]
    assert keys[0] == keys[1]
    assert len(keys[0]) > 60
    named = set(re.findall(r'data-text="(\w+)"', (page / "index.html").read_text(encoding="utf-8")))
    assert named <= keys[0]


def test_a_page_replaces_an_earlier_one_and_nothing_else(page: Path, tiny_engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    make_page([tiny_engine], out)
    tree = json.loads((out / "page.json").read_text(encoding="utf-8"))
    old = out / "model-0.lxe"
    (out / tree["models"][0]["file"]["path"]).rename(old)
    tree["models"][0]["file"]["path"] = old.name
    (out / "page.json").write_text(json.dumps(tree), encoding="utf-8")
    (out / ".token").write_text("kept", encoding="utf-8")
    make_page([tiny_engine], out)
    assert not old.exists()
    assert len(list(out.glob("code-*"))) == 1
    assert (out / ".token").read_text(encoding="utf-8") == "kept"
    assert list_files(out) == list_files(page)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(WriteError, match="has other files in it"):
        make_page([tiny_engine], tmp_path)


def test_only_engine_files_make_a_page(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    onnx = build_artifact(run.artifacts / "dense-onnx")
    run.recipe.write_text("name: toy\ndata: {kind: scenes}\n", encoding="utf-8")
    with pytest.raises(MeasureError, match="has format onnx, but a page runs engine files"):
        make_page([onnx], tmp_path / "page")
    with pytest.raises(MeasureError, match="has no engine file"):
        make_page([run.root], tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_page_has_the_rivals_of_the_named_folder(tiny_engine: Path, tmp_path: Path) -> None:
    onnx = build_artifact(tmp_path / "dense-onnx")
    runtime = tmp_path / "dist"
    runtime.mkdir()
    with pytest.raises(MeasureError, match=r"has no ort\.wasm\.min\.mjs; give the folder dist of the npm package"):
        make_page([tiny_engine, onnx], tmp_path / "page", rivals=runtime)
    (runtime / "ort.wasm.min.mjs").write_text('import("ort-wasm-x.mjs")', encoding="utf-8")
    with pytest.raises(MeasureError, match=r"ort\.wasm\.min\.mjs needs ort-wasm-x\.mjs and its \.wasm beside it"):
        make_page([tiny_engine, onnx], tmp_path / "page", rivals=runtime)
    for ending in ("mjs", "wasm"):
        (runtime / f"ort-wasm-x.{ending}").write_text(ending, encoding="utf-8")
    with pytest.raises(MeasureError, match="there is no ONNX file of the tickets and precisions of the page"):
        make_page([tiny_engine], tmp_path / "page", rivals=runtime)
    assert make_page([tiny_engine, onnx], tmp_path / "page", rivals=runtime) == ["model-engine"]
    rivals = json.loads((tmp_path / "page" / "page.json").read_text(encoding="utf-8"))["rivals"]
    assert [found["name"] for found in rivals["runtimes"]] == ["onnxruntime-web"]
    assert [found["sha256"] for found in rivals["models"]] == [sha256(onnx / "artifact.json")]
    sources = [
        runtime / "ort.wasm.min.mjs",
        runtime / "ort-wasm-x.mjs",
        runtime / "ort-wasm-x.wasm",
        onnx / "model.onnx",
    ]
    copied = [*rivals["runtimes"][0]["files"].values(), rivals["models"][0]["file"]]
    assert [file["sha256"] for file in copied] == [sha256(path) for path in sources]
    assert {file["path"] for file in copied} <= set(list_files(tmp_path / "page"))


def test_an_extractor_must_be_that_of_the_model(tiny_engine: Path, tmp_path: Path) -> None:
    extractor = write_extractor(tmp_path / "extractor", format="engine")
    with pytest.raises(MeasureError, match="is not the extractor that model-engine was trained with"):
        make_page([tiny_engine], tmp_path / "page", extractor=extractor)
    other = write_extractor(tmp_path / "other", format="onnx")
    with pytest.raises(MeasureError, match="export the extractor with --format engine"):
        make_page([tiny_engine], tmp_path / "page", extractor=other)


def test_a_model_of_pixels_needs_no_extractor(tmp_path: Path) -> None:
    origin = FeatureOrigin(made_with=describe_options("pixels", PIXELS), regions=1)
    start = save_start(TOYS["vilt"], tmp_path / "start")
    make_page([export_engine(start, tmp_path, origin=origin)], tmp_path / "page")
    tree = json.loads((tmp_path / "page" / "page.json").read_text(encoding="utf-8"))
    assert (tree["asks"], tree["models"][0]["reads"], tree["extractor"]) == ("photo", "photo", None)
    reading = {"side": PIXELS, "features": 3 * PIXELS**2, "boxes": [0, 0, 1, 1], "mean": 127.5, "deviation": 127.5}
    assert tree["pixels"] == reading
