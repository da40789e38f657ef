"""Laws of questions over several images: the head reads what came of each image alone, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import LxmertConfig, LxmertForQuestionAnswering
from transformers.utils import logging

from lxcompress.data.split import Inputs
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import ModelError
from lxcompress.models import lxmert
from lxcompress.models.checkpoints import Model, load_model, save_model
from lxcompress.models.original import account
from lxcompress.models.start import load_start
from tests.models.original import TINY, draw, fine_tuned_shapes, some_inputs

LABELS = ("false", "true")


@pytest.fixture
def pair(toy_start) -> Model:
    return load_start(str(toy_start), LABELS, 0, images=2)[0]


@pytest.fixture
def saved(toy_start, tmp_path) -> Path:
    model, weights = load_start(str(toy_start), LABELS, 0, images=2)
    save_model(tmp_path / "pair", model, weights, shipped_vocabulary())
    return tmp_path / "pair"


def score(model: Model, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return model.family.answer(model.module, inputs)


def score_slowly(weights: dict[str, Tensor], config: LxmertConfig, inputs: Inputs, images: int) -> Tensor:
    """Each image through transformers' encoder alone; the head written out."""
    whole = LxmertForQuestionAnswering(config).eval()
    whole.lxmert.load_state_dict(
        {name.removeprefix("lxmert."): weights[name] for name in weights if name.startswith("lxmert.")}, strict=False
    )
    head = {name.removeprefix("answer_head.logit_fc."): weights[name] for name in weights if "answer_head" in name}
    scores = []
    with torch.no_grad():
        for first in range(0, len(inputs.input_ids), images):
            pooled = [
                whole.lxmert(**{name: each[row : row + 1] for name, each in inputs._asdict().items()}).pooled_output[0]
                for row in range(first, first + images)
            ]
            hidden = nn.functional.gelu(head["0.weight"] @ torch.cat(pooled) + head["0.bias"])
            hidden = nn.functional.layer_norm(hidden, hidden.shape, head["2.weight"], head["2.bias"], eps=1e-12)
            scores.append(head["3.weight"] @ hidden + head["3.bias"])
    return torch.stack(scores)


@pytest.mark.parametrize("images", [2, 3])
def test_a_score_is_that_of_each_image_alone_set_side_by_side(images, toy_start) -> None:
    model, weights = load_start(str(toy_start), LABELS, 0, images=images)
    inputs = some_inputs(model.config, 4 * images)
    config = LxmertConfig(**{**model.config.to_dict(), "images_per_question": 1})
    scores = score(model, inputs)
    assert scores.shape == (4, 2)
    assert float(scores.std()) > 0
    assert torch.allclose(scores, score_slowly(weights, config, inputs, images), atol=1e-6)


def test_left_and_right_are_told_apart_and_questions_do_not_mix(pair) -> None:
    inputs = some_inputs(pair.config, 8)
    scores = score(pair, inputs)
    swapped = Inputs(*(each.view(4, 2, *each.shape[1:]).flip(1).reshape(each.shape) for each in inputs))
    assert not torch.allclose(score(pair, swapped), scores, atol=1e-4)
    turned = Inputs(*(each.view(4, 2, *each.shape[1:]).flip(0).reshape(each.shape) for each in inputs))
    assert torch.allclose(score(pair, turned), scores.flip(0), atol=1e-6)


def test_half_a_question_is_no_question(pair) -> None:
    with pytest.raises(RuntimeError):
        score(pair, some_inputs(pair.config, 3))


def test_of_one_image_nothing_changes(toy_start, tmp_path) -> None:
    plain, before = load_start(str(toy_start), LABELS, 0)
    one, after = load_start(str(toy_start), LABELS, 0, images=1)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert type(one.module) is LxmertForQuestionAnswering
    save_model(tmp_path / "one", one, after, shipped_vocabulary())
    config = json.loads((tmp_path / "one" / "config.json").read_text(encoding="utf-8"))
    assert "images_per_question" not in config
    assert config["architectures"] == ["LxmertForQuestionAnswering"]
    assert lxmert.FAMILY.count_images(plain.config) == 1


def test_saved_and_loaded_it_is_the_same(pair, saved) -> None:
    loaded = load_model(saved)
    inputs = some_inputs(pair.config, 6)
    assert json.loads((saved / "config.json").read_text(encoding="utf-8"))["images_per_question"] == 2
    assert lxmert.FAMILY.count_images(loaded.config) == 2
    assert loaded.weights.keys() == pair.weights.keys()
    assert torch.equal(score(loaded, inputs), score(pair, inputs))
    assert (loaded.live, loaded.whole) == (pair.live, pair.whole)


def test_what_is_prunable_dead_and_fresh_follows(pair, toy_start) -> None:
    width = pair.config.hidden_size
    single, _ = load_start(str(toy_start), LABELS, 0)
    assert pair.live - single.live == pair.whole - single.whole == 2 * width * width
    assert set(pair.prunable) == set(single.prunable)
    assert pair.prunable["answer_head.logit_fc.0.weight"].shape == (2 * width, 2 * width)
    assert not any(lxmert.FAMILY.is_dead(name, pair.config) for name in pair.weights)
    linear = {f"{name}.weight" for name, module in pair.module.named_modules() if isinstance(module, nn.Linear)}
    assert set(pair.prunable) == linear - {"answer_head.logit_fc.3.weight"}
    assert pair.weights["answer_head.logit_fc.0.weight"].std().item() == pytest.approx(0.02, rel=0.1)


def test_every_live_weight_gets_a_gradient(pair) -> None:
    pair.family.answer(pair.module, some_inputs(pair.config, 4)).square().sum().backward()
    assert all(weight.grad is not None for weight in pair.module.parameters())


def test_a_pair_model_may_start_a_study_over_single_images_and_the_reverse(pair, saved) -> None:
    single, weights = load_start(str(saved), LABELS, 0)
    assert type(single.module) is LxmertForQuestionAnswering
    assert "images_per_question" not in single.config.to_dict()
    again, _ = load_start(str(saved), LABELS, 0, images=2)
    assert all(torch.equal(again.weights[name], pair.weights[name]) for name in pair.weights)
    assert weights["answer_head.logit_fc.0.weight"].shape[1] == pair.config.hidden_size


def test_the_authors_nlvr2_model_is_known_by_the_shape_of_its_head(tmp_path) -> None:
    tensors = draw(fine_tuned_shapes(TINY, images=2))
    torch.save(tensors, tmp_path / "BEST.pth")
    model = load_model(tmp_path / "BEST.pth")
    assert lxmert.FAMILY.count_images(model.config) == 2
    assert account(tmp_path / "BEST.pth").total == model.whole
    inputs = some_inputs(model.config, 6)
    config = LxmertConfig(**{**model.config.to_dict(), "images_per_question": 1})
    assert torch.allclose(score(model, inputs), score_slowly(model.weights, config, inputs, 2), atol=1e-6)


def test_transformers_own_class_refuses_a_head_over_two_images(saved) -> None:
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            LxmertForQuestionAnswering.from_pretrained(saved)
    finally:
        logging.set_verbosity(level)


@pytest.mark.parametrize("images", [0, -1, 1.5, "two", True, None])
def test_a_config_that_says_nonsense_is_refused(images, saved) -> None:
    config = json.loads((saved / "config.json").read_text(encoding="utf-8"))
    (saved / "config.json").write_text(json.dumps({**config, "images_per_question": images}), encoding="utf-8")
    for call in (load_model, lambda where: load_start(where, LABELS, 0)):
        with pytest.raises(ModelError, match=r"images_per_question: .*, expected a whole number from 1"):
            call(str(saved))
