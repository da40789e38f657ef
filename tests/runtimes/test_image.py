"""Laws of a session that keeps an image: its answers are those of a plain call, in every runtime and family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import LxmertConfig, ViltConfig, VisualBertConfig

from lxcompress.engine import InferenceSession
from lxcompress.engine.build import find_compiler
from lxcompress.engine.pack import dense, quantised
from lxcompress.errors import MeasureError
from lxcompress.exporters.programs import Usual, build_program
from lxcompress.models import lxmert, vilt, visual_bert
from lxcompress.models.checkpoints import Model
from lxcompress.models.flops import make_example
from lxcompress.runtimes.engine import EngineSession
from lxcompress.runtimes.image import IMAGE_INPUTS, QUESTION_INPUTS, ImageSession
from lxcompress.runtimes.torch import TorchSession
from tests.complain import complain

needs_engine = pytest.mark.skipif(find_compiler() is None, reason="no C compiler is here, so the engine is not built")
SIZES = {"vocab_size": 50, "hidden_size": 36, "num_attention_heads": 3, "intermediate_size": 50}
FAMILIES = {
    "lxmert": (
        lxmert.FAMILY,
        LxmertConfig(num_qa_labels=7, l_layers=1, r_layers=2, x_layers=2, visual_feat_dim=10, **SIZES),
    ),
    "visual_bert": (
        visual_bert.FAMILY,
        VisualBertConfig(num_labels=7, num_hidden_layers=2, visual_embedding_dim=10, **SIZES),
    ),
    "vilt": (vilt.FAMILY, ViltConfig(num_labels=7, num_hidden_layers=2, image_size=32, patch_size=16, **SIZES)),
}
Feeds = dict[str, np.ndarray]
PATH = Path("model")


def make(name: str) -> Model:
    family, config = FAMILIES[name]
    config = type(config).from_dict(config.to_dict())
    model = Model(family.build(config), config, family)
    model.module.eval()
    return model


def draw(model: Model, rng: np.random.Generator, tokens: int, objects: int = 9) -> tuple[Feeds, Feeds]:
    """An image, and a question about it."""
    feeds = make_example(model, tokens=tokens, objects=objects).numpy()
    for name in ("visual_feats", "visual_pos"):
        feeds[name] = rng.random(feeds[name].shape, dtype=np.float32)
    feeds["input_ids"] = rng.integers(5, 50, feeds["input_ids"].shape)
    return {name: feeds[name] for name in IMAGE_INPUTS}, {name: feeds[name] for name in QUESTION_INPUTS}


def check(session: ImageSession, model: Model) -> None:
    """Three questions of different lengths about each of two images, then two questions in one call."""
    rng = np.random.default_rng(0)
    for objects in (9, 4):
        image, _ = draw(model, rng, 5, objects)
        session.see(image)
        for tokens in (5, 12, 3):
            _, question = draw(model, rng, tokens)
            expected = session.answer({**image, **question})
            assert session.ask(question).tobytes() == expected.tobytes()
        two = {name: np.repeat(array, 2, 0) for name, array in question.items()}
        found = session.ask(two)
        assert found.tobytes() == session.answer(two | {k: np.repeat(v, 2, 0) for k, v in image.items()}).tobytes()


@needs_engine
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("pack", [lambda weight, _: dense(weight, "fp32"), lambda weight, _: quantised(weight)])
@pytest.mark.parametrize("name", ["lxmert", "visual_bert"])
def test_the_engine_answers_about_an_image_as_in_a_plain_call(name, pack, threads, tmp_path) -> None:
    model = make(name)
    program = build_program(model, pack=pack, precision="fp32", usual=Usual(9, 5), most_objects=12)
    program.write(tmp_path / "model.lxe")
    engine = EngineSession(tmp_path / "model.lxe", InferenceSession(tmp_path / "model.lxe", threads=threads))
    check(ImageSession(tmp_path, engine), model)


def open_torch(model: Model) -> ImageSession:
    return ImageSession(PATH, TorchSession(PATH, model, lambda inputs: model.family.answer(model.module, inputs), 1))


@pytest.mark.parametrize("name", FAMILIES)
def test_another_runtime_answers_about_an_image_as_in_a_plain_call(name) -> None:
    model = make(name)
    check(open_torch(model), model)


def test_what_does_not_fit_is_one_sentence() -> None:
    model = make("lxmert")
    session = open_torch(model)
    image, question = draw(model, np.random.default_rng(0), 5)
    not_seen = "was asked before it has seen an image; call see first, or answer"
    broken = {**image, "visual_feats": np.full_like(image["visual_feats"], np.inf)}
    bad = {
        "see takes the inputs visual_feats, visual_pos, visual_attention_mask, but was given": question,
        "but was given a list": list(image.values()),
        "but was given none": {},
        "sees one image at a time, expected arrays [1, ...], got a batch size of 1 and 2": {
            **image,
            "visual_pos": np.repeat(image["visual_pos"], 2, 0),
        },
        "see takes visual_pos with a batch size": {**image, "visual_pos": np.float32(3)},
        "visual_feats holds NaN or infinity": broken,
    }
    complain(lambda: session.ask(question), not_seen, kind=MeasureError)
    for said, given in bad.items():
        session.see(image)
        assert session.ask(question).shape == (1, 7)
        complain(lambda given=given: session.see(given), said, kind=MeasureError)
        complain(lambda: session.ask(question), not_seen, kind=MeasureError)
    session.see(image)
    complain(
        lambda: session.ask({**question, **image}),
        "ask takes the inputs input_ids, attention_mask, but",
        kind=MeasureError,
    )
    assert session.ask(question).shape == (1, 7)
