"""Laws of exported models that read several images a question: a batch is of questions, and each takes its rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.data.regions.prepare import prepare_store
from lxcompress.data.split import Inputs
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import MeasureError, RecipeError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.measure.artifacts import measure_artifacts
from lxcompress.models.checkpoints import Model, load_model, save_model
from lxcompress.models.start import load_start
from lxcompress.recipe import Nlvr2Data, Recipe
from lxcompress.records import Artifact, read_record
from lxcompress.runtimes import Session, open_session
from lxcompress.study.run import run_study
from lxcompress.tickets import load_ticket
from tests.data.regions.pictures import pictures, row, write_tsv
from tests.export.small import save_small
from tests.models.original import some_inputs

TICKET = "low-magnitude-weight-50-seed0"
IMAGES = 2


def nlvr2(folder: Path, train: int = 16, valid: int = 10) -> Nlvr2Data:
    """Sentences over pairs of images, and the store of their regions."""
    drawn = iter(pictures(2 * (train + valid), features=FEATURES))
    rows, files = [], {}
    for split, count in (("train", train), ("valid", valid)):
        examples = [
            {"sentence": f"There are {n % 4} cubes.", "identifier": f"{split}-{n}-0-0", "label": str(n % 3 == 0)}
            for n in range(count)
        ]
        files[split] = folder / f"{split}.json"
        files[split].write_text("".join(json.dumps(each) + "\n" for each in examples), encoding="utf-8")
        rows += [row(replace(next(drawn), image=f"{split}-{n}-0-img{side}")) for n in range(count) for side in (0, 1)]
    prepare_store([write_tsv(folder / "regions.tsv", rows)], folder / "regions", objects=5)
    return Nlvr2Data(kind="nlvr2", features=folder / "regions", **files)


@pytest.fixture(scope="module")
def run(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one ticket of a study over pairs."""
    root = tmp_path_factory.mktemp("pairs")
    run_study(tiny_recipe.model_copy(update={"data": nlvr2(root)}), root / "run", only=TICKET)
    return root / "run"


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """The ticket as ONNX."""
    export(open_source(run / "tickets" / TICKET), run / "artifacts" / "pair", ExportOptions("onnx"))
    return run / "artifacts" / "pair"


@pytest.fixture(scope="module")
def session(exported: Path) -> Session:
    return open_session(exported, threads=1)


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return load_ticket(run / "tickets" / TICKET).model


def score(model: Model, inputs: Inputs) -> np.ndarray:
    with torch.no_grad():
        return model.family.answer(model.module, inputs).numpy()


@pytest.mark.parametrize("questions", [1, 2, 3, 7, 32])
def test_the_file_answers_as_the_ticket_for_any_number_of_questions(questions, model, session) -> None:
    inputs = some_inputs(model.config, IMAGES * questions)
    scores = session.answer(inputs.numpy())
    assert scores.shape == (questions, 2)
    np.testing.assert_allclose(scores, score(model, inputs), atol=1e-5)


def test_a_question_is_answered_alike_alone_and_among_others(model, session) -> None:
    inputs = some_inputs(model.config, IMAGES * 5)
    scores = session.answer(inputs.numpy())
    assert float(scores.std()) > 0
    for question in range(5):
        rows = slice(IMAGES * question, IMAGES * (question + 1))
        alone = session.answer(Inputs(*(each[rows] for each in inputs)).numpy())
        np.testing.assert_allclose(alone, scores[question : question + 1], atol=1e-5)


def test_half_a_question_is_an_error(model, session) -> None:
    with pytest.raises(MeasureError, match="failed while answering"):
        session.answer(some_inputs(model.config, 3).numpy())


def test_the_file_says_how_many_rows_a_question_takes(exported) -> None:
    onnx.checker.check_model(str(exported / "model.onnx"))
    graph = onnx.load(exported / "model.onnx").graph
    first = {
        each.name: each.type.tensor_type.shape.dim[0].dim_param or each.type.tensor_type.shape.dim[0].dim_value
        for each in (*graph.input, *graph.output)
    }
    assert first.pop("scores") == "batch"
    assert set(first.values()) == {"2*batch"}
    assert read_record(exported / "artifact.json", Artifact).images == IMAGES


def test_the_file_is_proven_on_the_pairs_of_the_study(run, exported) -> None:
    artifact = read_record(exported / "artifact.json", Artifact)
    assert artifact.parity.questions == 10
    assert artifact.parity.changed_answers == 0
    assert artifact.accuracy == artifact.source_accuracy == load_ticket(run / "tickets" / TICKET).provenance.accuracy


def test_a_pair_is_measured_as_one_question(exported) -> None:
    (measured,) = measure_artifacts([exported], threads=1, runs=3, warmup=1)
    assert (measured.task.images, measured.task.batch, measured.task.runs) == (IMAGES, 1, 3)
    assert all(value > 0 for value in measured.latency.values)


def test_three_images_and_no_data_are_proven_on_random_inputs(tmp_path) -> None:
    three = load_model(save_small(tmp_path / "three", images=3))
    artifact = export(open_source(tmp_path / "three"), tmp_path / "out", ExportOptions("bitmask"))
    assert artifact.images == 3
    assert artifact.parity.inputs.startswith("seeded random inputs")
    assert artifact.parity.questions == 30
    inputs = some_inputs(three.config, 12)
    found = open_session(tmp_path / "out", threads=1, runtime="torch").answer(inputs.numpy())
    np.testing.assert_allclose(found, score(three, inputs), atol=1e-5)


def test_data_of_single_images_does_not_prove_a_pair_model(toy_recipe, toy_start, tmp_path) -> None:
    pair, weights = load_start(str(toy_start), ANSWERS, 0, images=2)
    save_model(tmp_path / "pair", pair, weights, shipped_vocabulary())
    with pytest.raises(RecipeError, match=r"reads 2 images per question, but data\.kind=scenes has 1"):
        export(open_source(tmp_path / "pair", toy_recipe), tmp_path / "out", ExportOptions("onnx"))
