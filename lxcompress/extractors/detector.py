"""DetectorExtractor: the regions that a Faster R-CNN finds, as those whose features LXMERT was trained on.

It reads the folder that LXMERT's authors publish as unc-nlp/frcnn-vg-finetuned: config.yaml and the weights.

Shapes: H and W rows and columns of a picture, D detections, F features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from lxcompress.catalog.extractors import DETECTOR
from lxcompress.data.regions.identity import ExtractorRecord
from lxcompress.data.regions.rows import RowError
from lxcompress.errors import DataError, LxError
from lxcompress.extractors.faster_rcnn import BLOCKS, DetectorConfig, FasterRcnn
from lxcompress.extractors.photo import Picture, read_prepared, to_pixels
from lxcompress.extractors.weights import hash_version, read_weights
from lxcompress.filenames import WEIGHTS_FILE
from lxcompress.settings import read_yaml_file

CONFIG, WEIGHT_FILES = "config.yaml", (WEIGHTS_FILE, "pytorch_model.bin")
FORMATS = ("BGR", "RGB")
REMEDY = "give the folder unc-nlp/frcnn-vg-finetuned, with its config.yaml and pytorch_model.bin"


@dataclass(frozen=True)
class PictureConfig:
    """How the detector reads a picture."""

    shortest: int
    """the pixels of the shorter side"""
    longest: int
    """the most pixels of the longer side"""
    channels: str
    """the order of the colours, BGR or RGB"""
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    """of each channel in this order, in units of 0-255"""


@dataclass(frozen=True)
class DetectorExtractor:
    """A Faster R-CNN, and how it reads a picture."""

    network: FasterRcnn
    picture: PictureConfig
    version: str

    @property
    def record(self) -> ExtractorRecord:
        """Return the identity of this extractor."""
        picture = self.picture
        settings = {
            "resize": f"shorter side {picture.shortest}, longer side at most {picture.longest}; bilinear, no smoothing",
            "channels": picture.channels,
            "mean": list(picture.mean),
            "deviation": list(picture.deviation),
            "detections": [self.network.config.fewest, self.network.config.most],
        }
        return ExtractorRecord(name=DETECTOR, version=self.version, settings=settings)

    @property
    def objects(self) -> int:
        """Return the most regions of a photograph."""
        return self.network.config.most

    def read(self, path: Path) -> Picture:
        """Return a photograph, resized: float32 [H, W, 3]."""
        shortest, longest = self.picture.shortest, self.picture.longest
        return Picture(read_prepared(path, lambda image: resize(to_pixels(image), shortest, longest)))

    @torch.no_grad()
    def find_regions(self, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
        """Return the features [D, F] and the boxes [D, 4] (0-1) of the regions, by falling score."""
        height, width = picture.pixels.shape[:2]
        found = self.network(self.to_input(picture.pixels))
        boxes = found.boxes / found.boxes.new_tensor([width, height, width, height])
        return found.features.numpy(), boxes.numpy()

    def to_input(self, pixels: np.ndarray) -> torch.Tensor:
        """Return the input of the network [3, H, W] for `pixels` [H, W, 3]."""
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (self.picture.mean, self.picture.deviation))
        ordered = pixels[:, :, ::-1] if self.picture.channels == "BGR" else pixels
        values = torch.from_numpy(ordered.transpose(2, 0, 1).copy())
        return (values - mean) / deviation


def find_size(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """Return the rows and columns of the resized picture: the shorter side first, then the longer one is limited."""
    scale = shortest / min(height, width)
    rows, columns = (float(shortest), scale * width) if height < width else (scale * height, float(shortest))
    if max(rows, columns) > longest:
        shrink = longest / max(rows, columns)
        rows, columns = rows * shrink, columns * shrink
    return int(rows + 0.5), int(columns + 0.5)


def resize(pixels: np.ndarray, shortest: int, longest: int) -> np.ndarray:
    """Return `pixels` uint8 [h, w, 3] as float32 [H, W, 3]: torch's bilinear interpolation, without smoothing.

    One colour after the other, so that a large photograph needs a third of the memory.
    """
    height, width = pixels.shape[:2]
    size = find_size(height, width, shortest, longest)
    if min(size) < 1:
        raise RowError(f"it has {width:,} x {height:,} pixels, which is too narrow for the detector; leave it out")
    planes = [torch.from_numpy(pixels[:, :, channel].copy()) for channel in range(3)]
    resized = [
        functional.interpolate(plane[None, None].float(), size, mode="bilinear", align_corners=False)[0, 0]
        for plane in planes
    ]
    return torch.stack(resized, dim=2).numpy()


def load_detector(folder: Path) -> DetectorExtractor:
    """Load the detector in `folder`. Raises DataError if its config or its weights cannot be used."""
    config_path = folder / CONFIG
    path = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if not config_path.is_file() or path is None:
        missing = CONFIG if not config_path.is_file() else " or ".join(WEIGHT_FILES)
        raise DataError(f"{folder}: has no {missing}; {REMEDY}")
    try:
        tree = read_yaml_file(config_path)
    except LxError as problem:
        raise DataError(f"{problem}; {REMEDY}") from None
    settings = Settings(config_path, tree)
    network, picture = FasterRcnn(_read_network(settings)).eval(), _read_picture(settings)
    try:
        network.load(read_weights(path))
    except ValueError as problem:
        raise DataError(f"{path}: {problem}; {REMEDY}") from None
    return DetectorExtractor(network, picture, hash_version([path], json.dumps(tree, sort_keys=True, default=str)))


class Settings:
    """The settings of a config.yaml; a setting that is missing or that no such detector can have is a DataError."""

    def __init__(self, path: Path, tree: object) -> None:
        self._path = path
        self._tree = tree

    def get(self, name: str) -> Any:
        """Return the value of a dotted name, whatever the case of its letters."""
        found = self._tree
        for key in name.split("."):
            entries = {str(own).upper(): value for own, value in found.items()} if isinstance(found, Mapping) else {}
            if key not in entries:
                raise DataError(f"{self._path}: lacks {name}; {REMEDY}")
            found = entries[key]
        return found

    def number(self, name: str, least: float = 0) -> float:
        """Return a number of at least `least`."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
            raise DataError(f"{self._path}: {name} is {value!r}, expected a number from {least:g} on; {REMEDY}")
        return float(value)

    def count(self, name: str, least: int = 1) -> int:
        """Return a whole number of at least `least`."""
        return int(self.number(name, least))

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """Return a list of `length` numbers."""
        value = self.get(name)
        is_good = isinstance(value, list) and len(value) == length
        if not is_good or not all(isinstance(number, int | float) for number in value):
            raise DataError(f"{self._path}: {name} is {value!r}, expected {length} numbers; {REMEDY}")
        return tuple(float(number) for number in value)

    def length(self, name: str) -> int:
        """Return the length of the only list in a list: there is one map, and it has one list of sizes or shapes."""
        value = self.get(name)
        if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], list) or not value[0]:
            raise DataError(f"{self._path}: {name} is {value!r}, expected a list of one list of numbers; {REMEDY}")
        return len(value[0])

    def expect(self, name: str, *wanted: object) -> Any:
        """Return a value that must be one of `wanted`."""
        value = self.get(name)
        if value not in wanted:
            listed = " or ".join(repr(value) for value in wanted)
            raise DataError(f"{self._path}: {name} is {value!r}, expected {listed}; {REMEDY}")
        return value


def _read_picture(settings: Settings) -> PictureConfig:
    """Return how the detector reads a picture. Raises DataError."""
    settings.expect("SIZE_DIVISIBILITY", 0)
    return PictureConfig(
        shortest=settings.count("INPUT.MIN_SIZE_TEST"),
        longest=settings.count("INPUT.MAX_SIZE_TEST"),
        channels=str(settings.expect("INPUT.FORMAT", *FORMATS)),
        mean=settings.numbers("MODEL.PIXEL_MEAN", 3),
        deviation=settings.numbers("MODEL.PIXEL_STD", 3),
    )


def _read_network(settings: Settings) -> DetectorConfig:
    """Return the config of the network. Raises DataError for a network of another kind."""
    for name, wanted in (
        ("RESNETS.NORM", "BN"),
        ("RESNETS.RES5_DILATION", 1),
        ("RESNETS.OUT_FEATURES", ["res4"]),
        ("ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False),
    ):
        settings.expect(name, wanted)
    width, groups = settings.count("RESNETS.RES2_OUT_CHANNELS"), settings.count("RESNETS.NUM_GROUPS")
    hidden = settings.get("PROPOSAL_GENERATOR.HIDDEN_CHANNELS")
    overlaps = settings.get("ROI_HEADS.NMS_THRESH_TEST")
    return DetectorConfig(
        depth=settings.expect("RESNETS.DEPTH", *BLOCKS),
        stem=settings.count("RESNETS.STEM_OUT_CHANNELS"),
        width=width,
        bottleneck=groups * settings.count("RESNETS.WIDTH_PER_GROUP"),
        groups=groups,
        strides_first=bool(settings.get("RESNETS.STRIDE_IN_1X1")),
        caffe_pool=bool(settings.get("MODEL.MAX_POOL")),
        halves=bool(settings.get("ROI_BOX_HEAD.RES5HALVE")),
        anchors=settings.length("ANCHOR_GENERATOR.SIZES") * settings.length("ANCHOR_GENERATOR.ASPECT_RATIOS"),
        anchor_offset=settings.number("ANCHOR_GENERATOR.OFFSET"),
        proposal_channels=4 * width if hidden == -1 else settings.count("PROPOSAL_GENERATOR.HIDDEN_CHANNELS"),
        classes=settings.count("ROI_HEADS.NUM_CLASSES"),
        pooled=settings.count("ROI_BOX_HEAD.POOLER_RESOLUTION"),
        proposal_weights=settings.numbers("RPN.BBOX_REG_WEIGHTS", 4),
        box_weights=settings.numbers("ROI_BOX_HEAD.BBOX_REG_WEIGHTS", 4),
        proposal_overlap=settings.number("RPN.NMS_THRESH"),
        overlaps=settings.numbers("ROI_HEADS.NMS_THRESH_TEST", len(overlaps))
        if isinstance(overlaps, list) and overlaps
        else (settings.number("ROI_HEADS.NMS_THRESH_TEST"),),
        before_overlap=settings.count("RPN.PRE_NMS_TOPK_TEST"),
        proposals=settings.count("RPN.POST_NMS_TOPK_TEST"),
        smallest=settings.number("PROPOSAL_GENERATOR.MIN_SIZE"),
        fewest=settings.count("MIN_DETECTIONS", 0),
        most=settings.count("MAX_DETECTIONS"),
    )
