"""Law: nothing that ships holds a path of the machine that made it, in any encoding, and inside archives too."""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lxcompress
from lxcompress.cli.main import app
from lxcompress.engine.library import is_built
from lxcompress.exporters.artifact import open_source
from lxcompress.recipe import NlvrData, load_recipe
from lxcompress.records import Artifact, read_record
from lxcompress.study.agreement import has_lost_paths, name_paths
from lxcompress.study.run import run_study

MARK = "MARKED-folder"
CELL = "low-magnitude-weight-50-seed0"
FAST = (("bitmask", "int8"), ("transformers", "fp32"))
SLOW = (
    ("onnx", "fp32"),  # a ticket in it: tests/export/test_onnx.py
    ("onnx", "int8"),
    ("ort", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8-static"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    ("executorch", "fp32"),
    ("litert", "fp32"),
    ("litert", "int8"),
)
NEEDS = {"openvino": "openvino", "executorch": "executorch", "coreml": "coremltools", "litert": "litert_torch"}


@pytest.fixture(scope="module")
def run(tiny_start, toy_recipe_file, tmp_path_factory) -> Path:
    """A run folder of one ticket, below a folder of a marked name, from a start whose files name their place."""
    home = tmp_path_factory.mktemp("home") / MARK
    shutil.copytree(tiny_start, home / "start")
    config = json.loads((home / "start" / "config.json").read_text("utf-8"))
    config["_name_or_path"] = str(home / "start")
    (home / "start" / "config.json").write_text(json.dumps(config), "utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "name_or_path": str(home), "tokenizer_file": str(home / "t.json")}
    (home / "start" / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    recipe = load_recipe(toy_recipe_file, [f"model.start={home / 'start'}", "seeds=[0]"])
    run_study(recipe, home / "run", only=CELL)
    return home / "run"


def parts(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def paths_in(folder: Path, mark: str = MARK) -> list[str]:
    """The files of a folder that hold the marked name, or where this package, its libraries or its user live."""
    places = (mark, str(Path(lxcompress.__file__).parent), sys.prefix, "site-packages", str(Path.home()) + "/")
    words = [place.encode(encoding) for place in places for encoding in ("utf-8", "utf-16-le", "utf-16-be")]
    words += [json.dumps(place)[1:-1].replace("/", "\\/").encode() for place in places if "/" in place]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [f"{path}: {word!r}" for path in files for part in parts(path) for word in words if word in part]


def export(source: Path, out: Path, format: str, precision: str) -> None:
    made = CliRunner().invoke(
        app, ["export", str(source), "--format", format, "--precision", precision, "--out", str(out)]
    )
    assert made.exit_code == 0, (made.output, made.exception)


def check_format(run: Path, out: Path, format: str, precision: str) -> None:
    for source in (run / "tickets" / CELL, run / "seeds" / "0" / "dense"):
        folder = out / f"{source.name}-{format}-{precision}"
        export(source, folder, format, precision)
        assert paths_in(folder) == []
        record = read_record(folder / "artifact.json", Artifact)
        assert record.source == source.relative_to(run).as_posix()
        assert record.seed == 0


def test_tickets_and_dense_runs_hold_no_path(run) -> None:
    assert paths_in(run / "tickets") == []
    assert paths_in(run / "seeds") == []


def test_the_search_finds_what_is_there(run, tmp_path) -> None:
    assert paths_in(run)  # recipe.yaml is of this machine, and is not shipped
    for encoding in ("utf-8", "utf-16-le"):
        (tmp_path / "file").write_bytes(b"\0x" + f"/{MARK}/".encode(encoding))
        assert paths_in(tmp_path)
    with zipfile.ZipFile(tmp_path / "file", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", f"/home/{MARK}" * 20)
    assert paths_in(tmp_path)


@pytest.mark.parametrize(("format", "precision"), FAST)
def test_an_exported_file_holds_no_path(run, tmp_path, format, precision) -> None:
    check_format(run, tmp_path, format, precision)


@pytest.mark.skipif(not is_built(), reason="the engine is not built here")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_engine_file_holds_no_path(run, tmp_path, precision) -> None:
    check_format(run, tmp_path, "engine", precision)


@pytest.mark.slow
@pytest.mark.parametrize(("format", "precision"), [*SLOW, ("coreml", "fp16")])
def test_any_other_exported_file_holds_no_path(run, tmp_path, format, precision) -> None:
    if format in NEEDS:
        pytest.importorskip(NEEDS[format])
    check_format(run, tmp_path, format, precision)


def test_a_pruned_model_holds_no_path(run, tmp_path) -> None:
    said = CliRunner().invoke(
        app, ["prune", str(run / "seeds/0/dense"), "--sparsity", "0.5", "--out", str(tmp_path / "pruned")]
    )
    assert said.exit_code == 0, said.output
    assert paths_in(tmp_path / "pruned") == []


def test_a_ticket_names_the_files_of_its_data_and_its_run_knows_their_paths(tmp_path) -> None:
    data = NlvrData(kind="nlvr", train=(tmp_path / MARK / "train.json",), valid=(tmp_path / MARK / "dev.json",))
    named = name_paths(data)
    assert MARK not in json.dumps(named)
    assert named["train"] == ["train.json"]
    kept = NlvrData.model_validate(named)
    assert has_lost_paths(kept)
    assert not has_lost_paths(data)
    assert name_paths(kept) == named


def test_a_ticket_that_left_its_run_is_exported_with_its_data(run, tmp_path) -> None:
    """Its scenes have no path, so that they are known anywhere."""
    shutil.copytree(run / "tickets" / CELL, tmp_path / "alone")
    assert open_source(tmp_path / "alone").data == open_source(run / "tickets" / CELL).data
