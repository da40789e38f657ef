"""Laws of the detector `frcnn-vg`: the boxes and features of the published implementation, and no tensor unread.

tests/fixtures/faster-rcnn.json has what the published implementation gave for the tiny detector and picture
(huggingface/transformers at 2782171, examples/research_projects/lxmert; torchvision 0.28): every eighth feature.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lxcompress.data.regions.store import open_store, read_store_record
from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import DataError, ModelError
from lxcompress.extractors.boxes import pool_boxes, suppress
from lxcompress.extractors.detector import DetectorExtractor, find_size, load_detector, resize
from lxcompress.extractors.faster_rcnn import DetectorConfig, FasterRcnn
from lxcompress.extractors.photo import Picture
from lxcompress.models.checkpoints import save_model
from lxcompress.models.origin import set_origin
from lxcompress.models.start import NewLayers, load_start
from lxcompress.records import FeatureOrigin
from lxcompress.workflow.answer import answer_photo
from lxcompress.workflow.answer_request import AnswerOptions
from lxcompress.workflow.features import ExtractOptions, extract_features
from tests.extractors.tiny_detector import ATTRIBUTES, CONFIG, draw_picture, save_detector

PUBLISHED = json.loads((Path(__file__).parent.parent / "fixtures" / "faster-rcnn.json").read_text())
OTHER = {
    "RESNETS": {**CONFIG["RESNETS"], "STRIDE_IN_1X1": False},
    "MODEL": {**CONFIG["MODEL"], "MAX_POOL": False},
    "ROI_BOX_HEAD": {**CONFIG["ROI_BOX_HEAD"], "RES5HALVE": True},
    "ANCHOR_GENERATOR": {**CONFIG["ANCHOR_GENERATOR"], "OFFSET": 0.5},
    "MIN_DETECTIONS": 1,
}
"""Another network of the same shapes: the stride in another convolution, another first pooling, a head that halves."""
TINY = DetectorConfig(
    depth=50,
    stem=4,
    width=8,
    bottleneck=4,
    groups=1,
    strides_first=True,
    caffe_pool=True,
    halves=False,
    anchors=9,
    proposal_channels=8,
    classes=7,
    pooled=6,
    proposal_weights=(1.0,) * 4,
    box_weights=(10.0, 10.0, 5.0, 5.0),
    proposal_overlap=0.7,
    overlaps=(0.1, 0.5),
    before_overlap=150,
    proposals=30,
    smallest=0,
    fewest=8,
    most=10,
    anchor_offset=0,
)


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in FasterRcnn(TINY).state_dict().items()}


@pytest.fixture(scope="module")
def folder(shapes, tmp_path_factory) -> Path:
    return save_detector(tmp_path_factory.mktemp("detector"), shapes)


def test_the_config_is_read(folder) -> None:
    assert load_detector(folder).network.config == TINY


@pytest.mark.parametrize(("case", "changes"), [("published", {}), ("other", OTHER)])
def test_regions_are_those_of_the_published_implementation(case, changes, shapes, tmp_path) -> None:
    detector = load_detector(save_detector(tmp_path, shapes, **changes))
    pixels = resize(draw_picture(), detector.picture.shortest, detector.picture.longest)
    features, boxes = detector.find_regions(Picture(pixels))
    expected = PUBLISHED[case]
    assert len(boxes) == len(expected["boxes"])
    assert np.abs(boxes - np.array(expected["boxes"])).max() < 1e-5
    assert np.abs(features[:, ::8] - np.array(expected["features"])).max() < 1e-4
    found = detector.network(detector.to_input(pixels))
    assert found.classes.tolist() == expected["classes"]
    assert np.abs(found.scores.numpy() - np.array(expected["scores"])).max() < 1e-5


def test_every_tensor_of_the_file_is_read_or_named(folder, shapes) -> None:
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    network = FasterRcnn(TINY)
    assert network.load(weights) == tuple(sorted(ATTRIBUTES))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    name = "roi_heads.box_predictor.cls_score.weight"
    for changed, told in (
        ({own: tensor for own, tensor in weights.items() if own != name}, f"lacks 1 tensors, {name} is the first"),
        ({**weights, "backbone.extra": torch.zeros(1)}, r"has unknown tensors, backbone\.extra is the first"),
        ({**weights, name: torch.zeros(2, 2)}, r"has the shape \[2, 2\], expected \[8, 64\]"),
    ):
        with pytest.raises(ValueError, match=told):
            network.load(changed)


def test_the_colours_are_in_the_order_of_the_config(folder, shapes, tmp_path) -> None:
    turned = load_detector(save_detector(tmp_path, shapes, INPUT={**CONFIG["INPUT"], "FORMAT": "RGB"}))
    pixels = np.random.default_rng(0).random((8, 9, 3), dtype=np.float32)
    straight = load_detector(folder)
    assert torch.equal(straight.to_input(pixels[:, :, ::-1]), turned.to_input(pixels))
    assert straight.record.version != turned.record.version


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(480, 640, (800, 1067)), (300, 900, (444, 1333)), (500, 100, (1333, 267))]
)
def test_the_shorter_side_is_resized_and_the_longer_one_limited(height, width, expected) -> None:
    assert find_size(height, width, 800, 1333) == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"RESNETS": {**CONFIG["RESNETS"], "NORM": "GN"}}, "RESNETS.NORM is 'GN', expected 'BN'"),
        ({"ANCHOR_GENERATOR": {**CONFIG["ANCHOR_GENERATOR"], "SIZES": [8]}}, r"SIZES is \[8\], expected a list of one"),
        ({"INPUT": {"FORMAT": "BGR"}}, "lacks INPUT.MIN_SIZE_TEST"),
        ({"MAX_DETECTIONS": "many"}, "MAX_DETECTIONS is 'many', expected a number from 1 on"),
        ({"MODEL": {**CONFIG["MODEL"], "PIXEL_STD": [1.0]}}, r"PIXEL_STD is \[1.0\], expected 3 numbers"),
        (
            {"ROI_HEADS": {**CONFIG["ROI_HEADS"], "NUM_CLASSES": 3}},
            r"bias has the shape \[28\], expected \[12",
        ),
    ],
)
def test_another_network_is_refused(changes, told, shapes, tmp_path) -> None:
    with pytest.raises(DataError, match=f"{told}.*; give the folder unc-nlp/frcnn-vg-finetuned"):
        load_detector(save_detector(tmp_path, shapes, **changes))


def test_a_file_that_would_run_code_is_refused(folder, shapes, tmp_path) -> None:
    save_detector(tmp_path, shapes)
    torch.save({"weights": DetectorExtractor}, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be read as weights"):
        load_detector(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"has no model\.safetensors or pytorch_model\.bin"):
        load_detector(tmp_path)


def test_the_store_has_the_regions_that_were_found(folder, tmp_path) -> None:
    Image.fromarray(draw_picture()).save(tmp_path / "1.png")
    Image.fromarray(np.full((3, 40, 3), 200, dtype=np.uint8)).save(tmp_path / "2.png")
    options = ExtractOptions(extractor="frcnn-vg", weights=folder, threads=2)
    extract_features([tmp_path], tmp_path / "store", options)
    store = open_store(tmp_path / "store")
    assert store.features.shape == (2, 10, 64)
    row = store.row("1")
    assert store.objects[row] == 10
    assert np.abs(store.boxes[row] - np.array(PUBLISHED["published"]["boxes"])).max() < 1e-5
    record = read_store_record(tmp_path / "store").extractor
    assert record is not None
    assert (record.name, record.version) == ("frcnn-vg", load_detector(folder).version)
    assert record.settings["channels"] == "BGR"
    for options, told in (
        (ExtractOptions(extractor="frcnn-vg"), "has no weights of its own; give the folder"),
        (ExtractOptions(extractor="frcnn-vg", weights=folder, grid=3), "--grid 3: has no effect on frcnn-vg"),
        (ExtractOptions(weights=folder), "--weights .*: has no effect on grid-efficientnet-lite0"),
    ):
        with pytest.raises(DataError, match=told):
            extract_features([tmp_path], tmp_path / "none", options)


def test_doubles_are_those_of_the_definition() -> None:
    draw = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=draw) * 50
    boxes = torch.cat([corners, corners + 5 + torch.rand(60, 2, generator=draw) * 30], dim=1)
    scores = torch.rand(60, generator=draw)
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlap_of(boxes[index].tolist(), boxes[other].tolist()) <= 0.4 for other in kept):
            kept.append(index)
    assert suppress(boxes, scores, 0.4, 60).tolist() == kept
    assert suppress(boxes, scores, 0.4, 5).tolist() == kept[:5]
    assert suppress(boxes[:0], scores[:0], 0.4, 5).tolist() == []


def overlap_of(one: list[float], other: list[float]) -> float:
    """Return the intersection of two boxes divided by their union."""
    sides = [max(0.0, min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis])) for axis in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    shared = sides[0] * sides[1]
    return shared / (areas[0] + areas[1] - shared)


def test_pooled_cells_hold_the_largest_values() -> None:
    maps = torch.arange(48.0).view(1, 6, 8)
    whole, beyond = pool_boxes(maps, torch.tensor([[0, 0, 112, 80.0], [200, 200, 300, 300]]), 1 / 16, 2)
    assert whole[0].tolist() == [[19, 23], [43, 47]]
    assert beyond[0].tolist() == [[0, 0], [0, 0]]  # no cell of the map lies in it
    assert pool_boxes(maps, torch.tensor([[40.0, 8, 40, 8]]), 1 / 16, 1)[0, 0, 0, 0] == maps[0, 1, 3]  # halves round up


def test_a_question_about_a_photograph_needs_the_detector_of_the_training(folder, shapes, tiny_start, tmp_path) -> None:
    Image.fromarray(draw_picture()).save(tmp_path / "1.png")
    model, _ = load_start(str(tiny_start), ("yes", "no"), 0, layers=NewLayers(features=64))
    set_origin(
        model.config, FeatureOrigin(made_with="--extractor frcnn-vg", regions=10, version=load_detector(folder).version)
    )
    save_model(tmp_path / "model", model, model.weights, shipped_vocabulary())
    ask = (tmp_path / "1.png", ("is it red?",), tmp_path / "model")
    found = answer_photo(*ask, AnswerOptions(weights=folder))
    assert found.extractor == "frcnn-vg"
    assert sum(possible.probability for possible in found.answers[0].answers) == pytest.approx(1)
    with pytest.raises(DataError, match="has no weights of its own; give the folder"):
        answer_photo(*ask)
    other = save_detector(tmp_path / "other", shapes, MIN_DETECTIONS=2)
    with pytest.raises(ModelError, match=r"was trained on features of frcnn-vg \(version .*\), not of frcnn-vg \(ver"):
        answer_photo(*ask, AnswerOptions(weights=other))
