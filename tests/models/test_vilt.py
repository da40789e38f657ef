"""Laws of ViLT's adapter: a picture is one region, all its patches are looked at, in one order, whatever the config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import ViltConfig, ViltForQuestionAnswering

from lxcompress.data.objects import ANSWERS
from lxcompress.errors import ModelError
from lxcompress.models import vilt
from lxcompress.models.checkpoints import feature_size
from lxcompress.models.start import load_start
from tests.models.families import PIXELS, TOYS, ask_vilt, save_start, some_inputs

TOY = TOYS["vilt"]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return save_start(TOY, tmp_path_factory.mktemp("vilt"))


def with_config(start: Path, folder: Path, **changed: object) -> Path:
    folder.mkdir()
    for path in start.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = {**json.loads((start / "config.json").read_text("utf-8")), **changed}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_features_are_pixels_row_after_row_and_channel_after_channel(start) -> None:
    assert feature_size(str(start)) == 3 * PIXELS**2
    model, _ = load_start(str(start), ANSWERS, 0)
    pictures = torch.randn(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))
    inputs = some_inputs(TOY, 2)._replace(visual_feats=pictures.flatten(1)[:, None])
    with torch.no_grad():
        words = {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask}
        expected = model.module(**words, pixel_values=pictures, pixel_mask=torch.ones(2, PIXELS, PIXELS)).logits
        torch.testing.assert_close(vilt.FAMILY.answer(model.module, inputs), expected, atol=1e-6, rtol=1e-5)


def test_all_patches_are_seen_where_transformers_would_draw_some(start, tmp_path) -> None:
    few, _ = load_start(str(with_config(start, tmp_path / "few", max_image_length=2)), ANSWERS, 0)
    all_of_them, _ = load_start(str(start), ANSWERS, 0)
    inputs = some_inputs(TOY, 16)
    with torch.no_grad():
        scores = vilt.FAMILY.answer(few.module, inputs)
        assert torch.equal(scores, vilt.FAMILY.answer(all_of_them.module, inputs))
        drawn = [ask_vilt(few.module, inputs) for _ in range(2)]
    assert not torch.equal(drawn[0], drawn[1])  # what the adapter is there to avoid


def test_answering_draws_nothing(start) -> None:
    model, _ = load_start(str(start), ANSWERS, 0)
    before = torch.get_rng_state()
    with torch.no_grad():
        vilt.FAMILY.answer(model.module, some_inputs(TOY))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"patch_size": 5}, "image_size 16 is not a multiple of patch_size 5"),
        ({"image_size": [16, 24]}, r"has image_size: .*, expected a whole number"),
    ],
)
def test_a_picture_that_patches_do_not_fill_is_refused(start, tmp_path, changed, words) -> None:
    with pytest.raises(ModelError, match=words):
        load_start(str(with_config(start, tmp_path / "odd", **changed)), ANSWERS, 0)


def test_the_published_size() -> None:
    """dandelin/vilt-b32-mlm's config is the default one; 3,129 answers make it ViLT's model of VQA."""
    config = ViltConfig()
    vilt.FAMILY.set_answers(config, 3129)
    shapes = vilt.FAMILY.shapes(config)
    prunable = sum(shape.numel() for name, shape in shapes.items() if vilt.FAMILY.is_prunable(name, shape))
    layers = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    assert vilt.FAMILY.feature_size(config) == 3 * 384 * 384
    assert prunable == layers + 768 * 768 + 768 * 1536  # the pooler, the head's first layer
    with torch.device("meta"):
        whole = ViltForQuestionAnswering(config)
    assert sum(shape.numel() for shape in shapes.values()) == sum(weight.numel() for weight in whole.parameters())
