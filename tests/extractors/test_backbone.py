"""Laws of extractors of transformers and torchvision: the tokens of the patches, prepared as the authors say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from lxcompress.data.regions.store import open_store, read_store_record
from lxcompress.errors import DataError
from lxcompress.extractors.backbone import cut_grid, to_map
from lxcompress.extractors.preparation import Preparation, read_processor
from lxcompress.extractors.transformers_models import load_transformers
from lxcompress.workflow.features import ExtractOptions, extract_features

SIDE, PATCH = 32, 8
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TINY, "image_size": SIDE, "patch_size": PATCH}
WORDS = {**TINY, "vocab_size": 20}
SQUARE = {
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
}
MIDDLE = {
    "size": {"shortest_edge": 40},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
}


def make_model(name: str) -> PreTrainedModel:
    """Return a tiny model with drawn weights; `clip` and `siglip` have a part for texts too."""
    torch.manual_seed(3)
    if name == "clip":
        return CLIPModel(CLIPConfig(text_config=WORDS, vision_config=VISION, projection_dim=8))
    if name == "siglip":
        return SiglipModel(SiglipConfig(text_config=WORDS, vision_config=VISION))
    if name == "dinov2":
        return Dinov2Model(Dinov2Config(**{**VISION, "mlp_ratio": 2}))
    if name == "resnet":
        return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    return ViTModel(ViTConfig(**VISION))


def patch_map(model: PreTrainedModel, picture: torch.Tensor) -> torch.Tensor:
    """Return the last map [1, C, h, w] by the slow way: with the tokens counted by hand."""
    vision = getattr(model, "vision_model", model)
    found = vision(pixel_values=picture).last_hidden_state
    if found.ndim == 4:
        return found
    patches = SIDE // PATCH
    tokens = found[:, found.shape[1] - patches**2 :]
    return torch.stack(
        [tokens[:, row * patches + column] for row in range(patches) for column in range(patches)], 2
    ).view(1, -1, patches, patches)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "7.png"
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (45, 80, 3), dtype=np.uint8)).resize((83, 61)).save(path)
    return path


@pytest.mark.parametrize("name", ["vit", "clip", "siglip", "dinov2", "resnet"])
def test_regions_are_the_patches_pooled_to_the_grid(name, photo, tmp_path) -> None:
    model = make_model(name).eval()
    model.save_pretrained(tmp_path / name)
    (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(SQUARE))
    extractor = load_transformers(tmp_path / name, 2)
    picture = extractor.read(photo)
    features, boxes = extractor.find_regions(picture)
    with torch.no_grad():
        maps = patch_map(model, extractor.preparation.to_input(picture.pixels))
    half = maps.shape[2] // 2
    for index, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        cell = maps[0, :, row * half : (row + 1) * half, column * half : (column + 1) * half].mean((1, 2))
        assert np.abs(features[index] - cell.numpy()).max() < 1e-5
    assert boxes.tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    with pytest.raises(DataError, match=r"--grid 9: expected 1 to .*, the cells of the last map of transformers:"):
        load_transformers(tmp_path / name, 9)


@pytest.mark.parametrize(("settings", "processor"), [(SQUARE, ViTImageProcessorPil), (MIDDLE, CLIPImageProcessorPil)])
def test_a_photograph_is_prepared_as_the_library_does(settings, processor, photo) -> None:
    preparation = read_processor(settings)
    found = preparation.to_input(preparation.read(photo).pixels)
    expected = torch.as_tensor(np.array(processor(**settings)(Image.open(photo))["pixel_values"]))
    assert found.shape == expected.shape
    step = max(1 / 255 / deviation for deviation in settings["image_std"])
    assert (found - expected).abs().max() < 1.01 * step  # Pillow resizes both sides in one call, and rounds once less
    assert (found - expected).abs().mean() < 0.05 * step


def test_boxes_are_those_of_the_part_that_is_read(photo) -> None:
    preparation = read_processor(MIDDLE)
    picture = preparation.read(photo)  # 83 x 61 becomes 54 x 40, of which the middle 32 x 32 is read
    assert picture.window == (11 / 54, 4 / 40, 43 / 54, 36 / 40)
    assert np.allclose(cut_grid(2, picture.window)[3], [27 / 54, 20 / 40, 43 / 54, 36 / 40])
    with pytest.raises(ValueError, match="expected a map or tokens"):
        to_map(torch.zeros(1, 3), (1, 1))
    with pytest.raises(ValueError, match="gives 5 tokens, which is no square"):
        to_map(torch.zeros(1, 5, 3), (4, 4))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"do_pad": True}, "has the step do_pad"),
        ({"crop_pct": 0.9}, "has the step crop_pct"),
        ({"size": {"longest_edge": 9}}, "expected height and width, or shortest_edge"),
        ({"size": {"shortest_edge": 40}}, "without do_center_crop"),
        ({"do_center_crop": True, "crop_size": 64}, r"has a crop_size \[64, 64\] that is larger"),
        ({"size": 10**9}, "expected 1 to 4096 pixels"),
        ({"resample": 9}, "has resample 9"),
        ({"image_mean": None}, "expected three numbers"),
        ({"do_resize": False}, "has no do_resize"),
    ],
)
def test_steps_that_are_not_known_are_refused(changes, told) -> None:
    with pytest.raises(ValueError, match=told):
        read_processor({**SQUARE, **changes})
    assert isinstance(read_processor({**SQUARE, "do_normalize": False}), Preparation)


def test_the_store_says_how_photographs_were_prepared(photo, tmp_path) -> None:
    make_model("vit").save_pretrained(tmp_path / "tiny vit")
    (tmp_path / "tiny vit" / "preprocessor_config.json").write_text(json.dumps(MIDDLE))
    options = ExtractOptions(extractor=f"transformers:{tmp_path / 'tiny vit'}", grid=2, threads=1)
    extract_features([photo], tmp_path / "store", options)
    record = read_store_record(tmp_path / "store")
    assert open_store(tmp_path / "store").features.shape == (1, 4, 16)
    assert record.extractor is not None
    assert record.extractor.name == "transformers:tiny-vit"
    steps = record.extractor.settings["preparation"]
    assert (steps["size"], steps["crop"], steps["filter"]) == (40, [SIDE, SIDE], "bicubic")
    assert record.origin is not None
    assert record.origin.made_with == "--extractor transformers:tiny-vit"
    with pytest.raises(DataError, match=r"--weights .*: has no effect on transformers:"):
        extract_features([photo], tmp_path / "none", ExtractOptions(extractor="transformers:x", weights=photo))


def test_folders_that_are_no_whole_image_model_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        load_transformers(tmp_path, 2)
    make_model("vit").save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"preprocessor_config\.json: is missing"):
        load_transformers(tmp_path, 2)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**SQUARE, "size": {"height": 24, "width": 24}}))
    with pytest.raises(DataError, match=r"cannot read a picture of 24 x 24 pixels \(Input image size"):
        load_transformers(tmp_path, 2)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(DataError, match=r"lacks \d+ tensors of ViTModel"):
        load_transformers(tmp_path, 2)
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.y"}}))
    with pytest.raises(DataError, match="never runs"):
        load_transformers(tmp_path, 2)
