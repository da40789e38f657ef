"""Laws of model.draw_feature_layer: one layer has another width, and all other start weights are kept."""

from __future__ import annotations

import pytest
import torch
from transformers import ViltConfig, VisualBertConfig

from lxcompress.data.fit import DataShape, find_misfits
from lxcompress.data.split import Inputs
from lxcompress.errors import ModelError
from lxcompress.models import vilt, visual_bert
from lxcompress.models.shape import describe_start
from lxcompress.models.start import NewLayers, load_start
from lxcompress.study.agreement import cell_defining_fields

LABELS = ("yes", "no", "red")
LAYER = "lxmert.encoder.visn_fc.visn_fc"


def test_only_the_layer_that_reads_features_is_drawn(tiny_start) -> None:
    kept, _ = load_start(str(tiny_start), LABELS, 0)
    model, start = load_start(str(tiny_start), LABELS, 0, layers=NewLayers(features=50))
    assert start[f"{LAYER}.weight"].shape == (16, 50)
    assert model.config.visual_feat_dim == 50
    changed = [name for name, tensor in kept.weights.items() if not torch.equal(tensor, start[name])]
    assert changed == [f"{LAYER}.weight"]  # the bias is 0 in both
    again = load_start(str(tiny_start), LABELS, 0, layers=NewLayers(features=50))[1]
    other = load_start(str(tiny_start), LABELS, 1, layers=NewLayers(features=50))[1]
    assert torch.equal(again[f"{LAYER}.weight"], start[f"{LAYER}.weight"])
    assert not torch.equal(other[f"{LAYER}.weight"], start[f"{LAYER}.weight"])
    words = torch.ones(2, 3, dtype=torch.int64)
    regions = torch.rand(2, 4, 50), torch.rand(2, 4, 4), torch.ones(2, 4, dtype=torch.int64)
    assert model.family.answer(model.module, Inputs(words, words, *regions)).shape == (2, len(LABELS))


def test_it_is_an_error_where_it_changes_nothing(tiny_start) -> None:
    with pytest.raises(ModelError, match="reads 18 features, as many as the data have; leave it out"):
        load_start(str(tiny_start), LABELS, 0, layers=NewLayers(features=18))
    with pytest.raises(ModelError, match="ViLT has no layer for the features of regions"):
        vilt.FAMILY.draw_feature_layer(ViltConfig(), 50, torch.Generator())


def test_visual_bert_has_such_a_layer() -> None:
    config = VisualBertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    drawn = visual_bert.FAMILY.draw_feature_layer(config, 7, torch.Generator().manual_seed(0))
    shapes = visual_bert.FAMILY.shapes(config)
    assert {name: shapes[name] for name in drawn} == {name: tensor.shape for name, tensor in drawn.items()}


def test_data_of_any_width_fit_such_a_start(tiny_start) -> None:
    data = DataShape("vqa", feature_size=1280, regions=36)
    assert "--set model.draw_feature_layer=true" in find_misfits(describe_start("m", str(tiny_start)), data)[0]
    assert not find_misfits(describe_start("m", str(tiny_start), draws_feature_layer=True), data)


def test_runs_of_earlier_versions_can_be_resumed(tiny_recipe) -> None:
    """Their checkpoints were written without this setting."""
    assert "model.draw_feature_layer" not in cell_defining_fields(tiny_recipe)
    model = tiny_recipe.model.model_copy(update={"draw_feature_layer": True})
    assert cell_defining_fields(tiny_recipe.model_copy(update={"model": model}))["model.draw_feature_layer"] is True
