"""Laws of UNITER's adapter: it answers as the authors' code, and accounts for each tensor of their checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lxcompress.data.bert_rules import SPECIAL
from lxcompress.models.checkpoints import load_model
from lxcompress.models.original import account
from lxcompress.models.start import load_start
from lxcompress.models.uniter import FAMILY, UniterConfig
from tests.complain import complain
from tests.models.original import Sizes, expand, released
from tests.models.single_streams import TINY, draw_fixed, fixed_inputs, uniter_fine_tuned, uniter_pretrained

PUBLISHED = Sizes(tokens=28_996, language=12, answers=3129, object_labels=1601)
"""uniter-base.pt, whose vocabulary is that of BERT with upper case."""
AUTHORS_SCORES = Path(__file__).parent / "uniter_scores.json"
"""The scores that ChenRocks/UNITER's code gives for `fixed_inputs` and the weights of `draw_fixed`."""


@pytest.fixture
def fine_tuned(tmp_path) -> Path:
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL), encoding="utf-8")
    torch.save(released(draw_fixed(uniter_fine_tuned(TINY))), tmp_path / "model_step_100.pt")
    return tmp_path / "model_step_100.pt"


def test_it_answers_as_the_authors_code(fine_tuned) -> None:
    model = load_model(fine_tuned)
    with torch.no_grad():
        scores = FAMILY.answer(model.module, fixed_inputs(TINY))
    expected = torch.tensor(json.loads(AUTHORS_SCORES.read_text("utf-8")))
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    assert float(expected.std(0).min()) > 0.01


def test_every_parameter_of_the_published_size_is_accounted_for(tmp_path) -> None:
    shapes = uniter_pretrained(PUBLISHED)
    torch.save(expand(shapes), tmp_path / "uniter-base.pt")
    found = account(tmp_path / "uniter-base.pt")
    assert found.total == sum(torch.Size(shape).numel() for shape in shapes.values())
    assert dict(found.aside) == {
        "embedding of masked regions": 2 * 2048,
        "masked words": 768 * 768 + 3 * 768 + 28_996,
        "masked words: the word embeddings again": 28_996 * 768,
        "features of masked regions": 768 * 768 + 3 * 768 + 2048,
        "features of masked regions: the projection of the regions again": 768 * 2048,
        "classes of masked regions": 768 * 768 + 3 * 768 + 1601 * 769,
        "sentence and image match": 2 * 769,
    }
    assert (found.answer_head, found.encoder) == (0, found.total - sum(found.aside.values()))


def test_a_fine_tuned_model_has_no_parameter_of_unknown_use(fine_tuned) -> None:
    found, model = account(fine_tuned), load_model(fine_tuned)
    assert (found.used, found.total) == (model.live, model.whole)


def test_a_start_is_the_encoder_of_the_release_under_a_new_head(tmp_path) -> None:
    tensors = draw_fixed(uniter_pretrained(TINY))
    torch.save(tensors, tmp_path / "uniter-base.pt")
    _, weights = load_start(str(tmp_path / "uniter-base.pt"), ("yes", "no"), 0)
    assert weights["vqa_output.3.weight"].shape == (2, 2 * TINY.hidden)
    encoder = {name for name in weights if name.startswith("uniter.")}
    assert all(torch.equal(weights[name], tensors[name]) for name in encoder)
    complain(lambda: load_model(tmp_path / "uniter-base.pt"), "has no answer head (vqa_output)")


def test_what_is_missing_or_unknown_is_named_as_in_the_file(tmp_path) -> None:
    tensors = expand(uniter_pretrained(TINY))
    lacking = {name: tensor for name, tensor in tensors.items() if name != "uniter.pooler.dense.bias"}
    torch.save(lacking, tmp_path / "short.pt")
    complain(lambda: account(tmp_path / "short.pt"), "lacks 1 tensors of UNITER (uniter.pooler.dense.bias is the first")
    torch.save({**tensors, "nlvr2_output.weight": torch.zeros(2, 3)}, tmp_path / "more.pt")
    complain(lambda: account(tmp_path / "more.pt"), "not UNITER's (nlvr2_output.weight is the first)")


def test_a_box_and_its_image_move_the_answer(fine_tuned) -> None:
    model, inputs = load_model(fine_tuned), fixed_inputs(TINY)
    with torch.no_grad():
        scores = FAMILY.answer(model.module, inputs)
        moved = FAMILY.answer(model.module, inputs._replace(visual_pos=inputs.visual_pos / 2))
    assert not torch.allclose(scores, moved, atol=1e-3)


def test_the_published_size() -> None:
    """UNITER-base with VQA's 3,129 answers."""
    config = UniterConfig(vocab_size=28_996)
    FAMILY.set_answers(config, 3129)
    shapes = FAMILY.shapes(config)
    prunable = sum(shape.numel() for name, shape in shapes.items() if FAMILY.is_prunable(name, shape))
    assert prunable == 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 768 * (2048 + 7) + 768 * 768 + 768 * 1536
