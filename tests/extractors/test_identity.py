"""Laws of the identity of an extractor: a model reads the features that it was trained on, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lxcompress.data.regions.identity import ExtractorRecord, extractor_of_model, is_same_extractor
from lxcompress.data.regions.store import RECORD, read_store_record
from lxcompress.errors import DataError, ModelError, RecipeError, RunError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.measure.evaluate import evaluate
from lxcompress.measure.plan import note_extractors, read_artifacts
from lxcompress.recipe import Recipe
from lxcompress.records import ORIGIN_FIELD
from lxcompress.rundir import write_record
from lxcompress.study.run import run_study
from lxcompress.workflow.features import ExtractOptions, extract_features

IMAGES, SIDE = 6, 8
OPTIONS = ExtractOptions(extractor="pixels", side=SIDE, threads=1)
OWN, OTHER = ExtractorRecord(name="made-up", version="7"), ExtractorRecord(name="another", version="1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for index in range(IMAGES):
        Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def rename_extractor(store: Path, extractor: ExtractorRecord | None) -> None:
    """Let the store say that another extractor made the same features; None leaves it out, as earlier versions did."""
    changes = {"extractor": extractor} | ({"reading": f"--extractor {extractor.name}"} if extractor else {})
    write_record(store / RECORD, read_store_record(store).model_copy(update=changes))


@pytest.fixture(scope="module")
def recipe(photos, tiny_start, tmp_path_factory) -> Recipe:
    folder = tmp_path_factory.mktemp("data")
    extract_features([photos], folder / "store", OPTIONS)
    rename_extractor(folder / "store", OWN)
    for split in ("train", "valid"):
        rows = [
            {"question_id": f"{split}{index}", "img_id": str(index), "sent": "is it red?", "label": {"yes": 1}}
            for index in range(IMAGES)
        ]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return Recipe.model_validate(
        {
            "name": "photos",
            "seeds": [0],
            "device": "cpu",
            "data": {
                "kind": "vqa",
                "train": folder / "train.json",
                "valid": folder / "valid.json",
                "features": folder / "store",
                "least_answers": 1,
            },
            "model": {"start": str(tiny_start), "draw_feature_layer": True},
            "train": {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3},
            "prune": {"criteria": ["low-magnitude"], "sparsities": [0.5]},
        }
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("run")
    run_study(recipe, root)
    return root


@pytest.fixture
def other_store(recipe):
    """Give the recipe's store features of another extractor, for one test."""
    rename_extractor(recipe.data.features, OTHER)
    yield recipe.data.features
    rename_extractor(recipe.data.features, OWN)


def test_a_store_says_which_extractor_made_it(photos, tmp_path) -> None:
    extract_features([photos], tmp_path / "store", OPTIONS)
    record = read_store_record(tmp_path / "store")
    assert record.extractor == ExtractorRecord(name="pixels", settings={"side": SIDE})
    rename_extractor(tmp_path / "store", None)  # as an earlier version made it
    assert "extractor" not in json.loads((tmp_path / "store" / RECORD).read_text())
    assert read_store_record(tmp_path / "store").made_by == ExtractorRecord(name="pixels")
    assert extract_features([photos], tmp_path / "store", OPTIONS).made.kept_before == IMAGES
    rename_extractor(tmp_path / "store", OTHER)
    with pytest.raises(DataError, match=r"was made from .* another \(version 1\); delete it, or give another --out"):
        extract_features([photos], tmp_path / "store", OPTIONS)


def test_the_run_and_its_tickets_say_which_features_they_read(run, recipe) -> None:
    (ticket,) = (run / "tickets").iterdir()
    for folder in (ticket, run / "seeds" / "0" / "dense"):
        assert extractor_of_model(folder) == OWN
    assert evaluate(str(ticket), recipe).score.questions == IMAGES


def test_a_model_refuses_the_features_of_another_extractor(run, recipe, other_store) -> None:
    (ticket,) = (run / "tickets").iterdir()
    with pytest.raises(
        RecipeError,
        match=r"reads features of made-up \(192 for a region\), but data\.kind=vqa gives features of another \(192\)",
    ):
        evaluate(str(ticket), recipe)
    as_start = recipe.model.model_copy(update={"start": str(run / "seeds" / "0" / "dense")})
    kept = as_start.model_copy(update={"draw_feature_layer": False})
    with pytest.raises(RecipeError, match=r"model\.draw_feature_layer=true"):
        run_study(recipe.model_copy(update={"model": kept}), run.with_name("kept"))
    with pytest.raises(RunError, match=r"was made with features of made-up, but data\.features now has .* of another"):
        run_study(recipe, run)


def test_artifacts_say_it_and_a_bench_of_two_extractors_warns(run, recipe, tmp_path) -> None:
    (ticket,) = (run / "tickets").iterdir()
    for name in ("one", "two"):
        export(open_source(ticket, recipe), tmp_path / name, ExportOptions(format="bitmask"))
    assert extractor_of_model(tmp_path / "one") == OWN
    targets = read_artifacts([tmp_path / "one", tmp_path / "two"])
    assert not note_extractors(targets)
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    origin = {**config[ORIGIN_FIELD], "made_with": "--extractor another", "version": "1"}
    (tmp_path / "two" / "config.json").write_text(json.dumps({**config, ORIGIN_FIELD: origin}))
    (remark,) = note_extractors(targets)
    assert "one of made-up 7, two of another 1" in remark
    (tmp_path / "two" / "config.json").write_text(json.dumps({**config, ORIGIN_FIELD: "another"}))
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        note_extractors(targets)


def test_an_unknown_extractor_is_compared_with_nothing(run, recipe, other_store) -> None:
    (ticket,) = (run / "tickets").iterdir()
    unnamed = {"extractor": None, "reading": ""}  # as `data prepare` writes it
    write_record(other_store / RECORD, read_store_record(other_store).model_copy(update=unnamed))
    assert evaluate(str(ticket), recipe).score.questions == IMAGES
    named, newer = ExtractorRecord(name="grid", version="1"), ExtractorRecord(name="grid", version="2")
    assert is_same_extractor(None, named)
    assert is_same_extractor(ExtractorRecord(name="grid"), named)
    assert is_same_extractor(named.model_copy(update={"settings": {"grid": 3}}), named)
    assert not is_same_extractor(named, newer)
