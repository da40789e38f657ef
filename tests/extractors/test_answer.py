"""Laws of `lxcompress answer`: the answers are those of a study over the same photograph, whatever answers them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import lxcompress as lx
from lxcompress.catalog.extractors import describe_options
from lxcompress.cli.main import app
from lxcompress.confidence.record import AnswerConfidence, make_record
from lxcompress.data.regions.store import open_store
from lxcompress.data.split import Inputs
from lxcompress.data.tokens import shipped_vocabulary, tokenize
from lxcompress.errors import DataError, LxError, ModelError
from lxcompress.filenames import RELIABILITY_FILE
from lxcompress.models.checkpoints import load_model, save_model
from lxcompress.models.origin import set_origin
from lxcompress.models.start import NewLayers, load_start
from lxcompress.records import FeatureOrigin
from lxcompress.rundir import write_record
from lxcompress.workflow.answer import answer_photo
from lxcompress.workflow.answer_request import AnswerOptions
from lxcompress.workflow.features import ExtractOptions, extract_features
from tests.models.families import PIXELS, TOYS, save_start

LABELS = ("yes", "no", "red", "two")
QUESTIONS = ("is it red?", "how many are there?")
ORIGIN = FeatureOrigin(made_with=describe_options("grid-efficientnet-lite0"), regions=4)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "cup.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def model(tiny_start, tmp_path_factory) -> Path:
    """A toy LXMERT that reads 2 x 2 cells of EfficientNet-Lite0."""
    folder = tmp_path_factory.mktemp("model") / "toy"
    made, _ = load_start(str(tiny_start), LABELS, 0, layers=NewLayers(features=1280))
    set_origin(made.config, ORIGIN)
    save_model(folder, made, made.weights, shipped_vocabulary())
    return folder


def test_the_answers_are_those_of_the_store(photo, model, tmp_path) -> None:
    extract_features([photo], tmp_path / "store", ExtractOptions(grid=2, threads=1))
    store, loaded = open_store(tmp_path / "store"), load_model(model)
    found = lx.answer(photo, QUESTIONS, model=model, top=4)
    assert (found.extractor, found.runtime, found.warnings) == ("grid-efficientnet-lite0", "torch", ())
    for question, answered in zip(QUESTIONS, found.answers, strict=True):
        words = torch.from_numpy(tokenize([question], shipped_vocabulary(), 64)).long()
        features, boxes = torch.from_numpy(store.features[:1]).float(), torch.from_numpy(store.boxes[:1])
        inputs = Inputs(words, torch.ones_like(words), features, boxes, torch.ones(1, 4, dtype=torch.int64))
        expected = loaded.family.answer(loaded.module, inputs).detach().softmax(1)[0]
        assert answered.question == question
        for possible in answered.answers:
            assert possible.probability == pytest.approx(float(expected[LABELS.index(possible.text)]), abs=1e-5)
        assert [possible.probability for possible in answered.answers] == pytest.approx(
            sorted(expected.tolist(), reverse=True), abs=1e-5
        )


def test_a_model_that_reads_pictures_answers_without_an_extractor(photo, tmp_path) -> None:
    """ViLT sees the pixels of the photograph, as a store of pictures has them."""
    toy = TOYS["vilt"]
    made, _ = load_start(str(save_start(toy, tmp_path / "start")), LABELS, 0)
    set_origin(made.config, FeatureOrigin(made_with=describe_options("pixels", PIXELS), regions=1))
    save_model(tmp_path / "model", made, made.weights, shipped_vocabulary())
    extract_features([photo], tmp_path / "store", ExtractOptions(extractor="pixels", side=PIXELS, threads=1))
    pixels = torch.from_numpy(open_store(tmp_path / "store").features[:1]).float()
    words = torch.from_numpy(tokenize(QUESTIONS[:1], shipped_vocabulary(), 64)).long()
    whole = torch.tensor([[[0.0, 0, 1, 1]]])
    inputs = Inputs(words, torch.ones_like(words), pixels, whole, torch.ones(1, 1).long())
    expected = made.family.answer(made.module.eval(), inputs).detach().softmax(1)[0]
    found = lx.answer(photo, QUESTIONS[0], model=tmp_path / "model", top=4)
    assert (found.extractor, found.warnings) == ("pixels", ())
    for possible in found.answers[0].answers:
        assert possible.probability == pytest.approx(float(expected[LABELS.index(possible.text)]), abs=1e-5)


def test_it_is_sure_from_the_threshold_on(photo, model) -> None:
    found = answer_photo(photo, QUESTIONS[:1], model, AnswerOptions(top=1))
    assert found.answers[0].is_sure is None
    (best,) = found.answers[0].answers
    options = AnswerOptions(threshold=best.probability)
    assert answer_photo(photo, QUESTIONS[:1], model, options).answers[0].is_sure


def test_the_study_gives_the_temperature_and_the_threshold(photo, model, tmp_path) -> None:
    plain = answer_photo(photo, QUESTIONS[:1], model, AnswerOptions(top=4)).answers[0].answers
    folder = shutil.copytree(model, tmp_path / "measured")
    half = np.full(4, 0.5)
    measured = AnswerConfidence(2.0, np.arange(4), half, half, np.ones(4), ("all",) * 4, {"all": 0})
    write_record(folder / RELIABILITY_FILE, make_record(measured))
    found = answer_photo(photo, QUESTIONS[:1], folder, AnswerOptions(top=4))
    roots = np.sqrt([possible.probability for possible in plain])
    assert [possible.probability for possible in found.answers[0].answers] == pytest.approx(roots / roots.sum())
    assert found.threshold == pytest.approx(0.5)
    assert found.answers[0].is_sure == (found.answers[0].answers[0].probability >= 0.5)
    with pytest.raises(DataError, match=r"--risk 0.2: expected one of 0.01, 0.05, 0.1"):
        answer_photo(photo, QUESTIONS[:1], folder, AnswerOptions(risk=0.2))


def test_the_command_shows_and_prints_json(photo, model) -> None:
    words = ["answer", str(photo), *QUESTIONS, "--model", str(model), "--threshold", "1", "--top", "2"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "I am not sure (best answer" in shown.stdout
    assert "extractor" in shown.stdout
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert [len(question["answers"]) for question in document["questions"]] == [2, 2]
    assert document["questions"][0]["is_sure"] is False
    assert document["extractor_ms"] > 0


def test_an_engine_file_answers_as_its_model(photo, model, tmp_path) -> None:
    from lxcompress.engine import InferenceSession  # skipped where there is no compiler

    assert InferenceSession
    lx.export(model, tmp_path / "engine", format="engine")
    one, other = lx.answer(photo, QUESTIONS, model=model), lx.answer(photo, QUESTIONS, model=tmp_path / "engine")
    assert other.runtime == "engine"
    assert other.image_ms is not None  # the layers that do not see the question run once
    for mine, theirs in zip(one.answers, other.answers, strict=True):
        assert [possible.text for possible in mine.answers] == [possible.text for possible in theirs.answers]


def test_a_model_that_never_saw_photographs_says_so(photo, tiny_start, model, tmp_path) -> None:
    made, _ = load_start(str(tiny_start), LABELS, 0)
    save_model(tmp_path / "scenes", made, made.weights, shipped_vocabulary())
    with pytest.raises(ModelError, match=r"names no extractor .* mean nothing; give a model that was trained"):
        lx.answer(photo, "red?", model=tmp_path / "scenes")
    with pytest.raises(ModelError, match=r"reads regions of 18 features, but grid-efficientnet-lite0 gives 1,280"):
        lx.answer(photo, "red?", model=tmp_path / "scenes", extractor="grid-efficientnet-lite0")
    with pytest.raises(ModelError, match=r"of grid-efficientnet-lite0 \(1,280 for a region\), not of grid-effi.*lite2"):
        lx.answer(photo, "red?", model=model, extractor="grid-efficientnet-lite2")
    made, _ = load_start(str(tiny_start), LABELS, 0, layers=NewLayers(features=1280))
    save_model(tmp_path / "unknown", made, made.weights, shipped_vocabulary())
    found = lx.answer(photo, "red?", model=tmp_path / "unknown", extractor="grid-efficientnet-lite0")
    assert "these answers mean nothing" in found.warnings[0]


def test_bad_requests_are_one_sentence(photo, model, tmp_path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    bad: tuple[tuple[Path, tuple[str, ...], str], ...] = (
        (photo, (), "is a photograph without a question"),
        (photo, (" ",), "question: is empty"),
        (tmp_path / "absent.jpg", ("red?",), "no such file; give one JPEG"),
        (tmp_path, ("red?",), "is a folder; give one JPEG"),
        (tmp_path / "text.jpg", ("red?",), "it is no JPEG, PNG or WebP photograph"),
    )
    for path, questions, message in bad:
        with pytest.raises(DataError, match=message):
            lx.answer(path, questions, model=model)
    with pytest.raises(LxError, match="no such"):
        lx.answer(photo, "red?", model=tmp_path / "absent")


def test_a_model_that_saw_fewer_regions_gets_as_many(photo, tiny_start, tmp_path) -> None:
    """The grid of the photograph is pooled as the study pooled the store."""
    extract_features([photo], tmp_path / "store", ExtractOptions(grid=2, threads=1))
    store = open_store(tmp_path / "store")
    made, _ = load_start(str(tiny_start), LABELS, 0, layers=NewLayers(features=1280))
    set_origin(made.config, ORIGIN.model_copy(update={"kept_regions": 1}))
    save_model(tmp_path / "model", made, made.weights, shipped_vocabulary())
    words = torch.from_numpy(tokenize(QUESTIONS[:1], shipped_vocabulary(), 64)).long()
    mean = torch.from_numpy(store.features[:1]).float().mean(1, keepdim=True).half().float()
    inputs = Inputs(words, torch.ones_like(words), mean, torch.tensor([[[0.0, 0, 1, 1]]]), torch.ones(1, 1).long())
    expected = float(made.family.answer(made.module.eval(), inputs).detach().softmax(1).max())
    answered = answer_photo(photo, QUESTIONS[:1], tmp_path / "model", AnswerOptions(top=1)).answers[0]
    assert answered.answers[0].probability == pytest.approx(expected, abs=1e-5)
