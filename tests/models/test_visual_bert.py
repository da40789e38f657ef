"""Laws of VisualBERT's adapter: regions without boxes, the state of the last word answers, the pooler is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import VisualBertConfig

from lxcompress.data.objects import ANSWERS, FEATURES
from lxcompress.errors import ModelError
from lxcompress.models import visual_bert
from lxcompress.models.checkpoints import feature_size, load_model
from lxcompress.models.start import load_start
from tests.models.families import TOYS, save_start, some_inputs

TOY = TOYS["visual_bert"]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return save_start(TOY, tmp_path_factory.mktemp("visual_bert"))


def test_the_start_has_the_names_of_the_hub(start) -> None:
    names = load_file(start / "model.safetensors").keys()
    assert "visual_bert.embeddings.visual_projection.weight" in names
    assert "cls.predictions.transform.dense.weight" in names  # a head of pre-training, under the answer head's prefix
    assert feature_size(str(start)) == FEATURES
    model, weights = load_start(str(start), ANSWERS, 0)
    assert {name for name in weights if name.startswith("cls.")} == {"cls.weight", "cls.bias"}
    assert not any("pooler" in name for name in (*weights, *model.weights))


def test_a_pretrained_model_has_no_answers_of_its_own(start) -> None:
    with pytest.raises(ModelError, match="which has no answer head of VisualBertForQuestionAnswering"):
        load_model(start)


def test_boxes_go_unread_and_the_order_of_regions_is_none(start) -> None:
    model, _ = load_start(str(start), ANSWERS, 0)
    inputs = some_inputs(TOY)
    mixed = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        scores = visual_bert.FAMILY.answer(model.module, inputs)
        assert torch.equal(
            visual_bert.FAMILY.answer(model.module, inputs._replace(visual_pos=1 - inputs.visual_pos)), scores
        )
        features, seen = inputs.visual_feats[:, mixed], inputs.visual_attention_mask[:, mixed]
        other = visual_bert.FAMILY.answer(
            model.module, inputs._replace(visual_feats=features, visual_attention_mask=seen)
        )
    torch.testing.assert_close(other, scores, atol=1e-6, rtol=1e-5)


def test_a_bypass_of_the_encoder_is_refused(start, tmp_path) -> None:
    config = json.loads((start / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "bypass_transformer": True}), encoding="utf-8")
    with pytest.raises(ModelError, match="bypass_transformer: true is not supported"):
        load_start(str(tmp_path), ANSWERS, 0)


def test_the_published_size() -> None:
    """uclanlp/visualbert-vqa-coco-pre's config with VQA's 3,129 answers."""
    config = VisualBertConfig(visual_embedding_dim=2048)
    visual_bert.FAMILY.set_answers(config, 3129)
    shapes = visual_bert.FAMILY.shapes(config)
    live = {name: shape for name, shape in shapes.items() if not visual_bert.FAMILY.is_dead(name, config)}
    prunable = sum(shape.numel() for name, shape in live.items() if visual_bert.FAMILY.is_prunable(name, shape))
    assert prunable == 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 768 * 2048
    assert visual_bert.FAMILY.count_dead(config) == 768 * 768 + 768
