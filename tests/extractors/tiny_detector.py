"""A tiny Faster R-CNN with drawn weights, in the layout of the published folder; and a picture with some edges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

CONFIG: dict[str, Any] = {
    "INPUT": {"FORMAT": "BGR", "MIN_SIZE_TEST": 96, "MAX_SIZE_TEST": 140},
    "MODEL": {
        "PIXEL_MEAN": [102.9801, 115.9465, 122.7717],
        "PIXEL_STD": [1.0, 1.0, 1.0],
        "MAX_POOL": True,
    },
    "RESNETS": {
        "DEPTH": 50,
        "STEM_OUT_CHANNELS": 4,
        "RES2_OUT_CHANNELS": 8,
        "NUM_GROUPS": 1,
        "WIDTH_PER_GROUP": 4,
        "STRIDE_IN_1X1": True,
        "NORM": "BN",
        "OUT_FEATURES": ["res4"],
        "RES5_DILATION": 1,
    },
    "PROPOSAL_GENERATOR": {"MIN_SIZE": 0, "HIDDEN_CHANNELS": 8},
    "ANCHOR_GENERATOR": {"SIZES": [[24, 48, 80]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]], "OFFSET": 0.0},
    "RPN": {
        "BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
        "NMS_THRESH": 0.7,
        "PRE_NMS_TOPK_TEST": 150,
        "POST_NMS_TOPK_TEST": 30,
    },
    "ROI_HEADS": {"NUM_CLASSES": 7, "NMS_THRESH_TEST": [0.1, 0.5]},
    "ROI_BOX_HEAD": {
        "POOLER_RESOLUTION": 6,
        "RES5HALVE": False,
        "ATTR": True,
        "NUM_ATTRS": 5,
        "CLS_AGNOSTIC_BBOX_REG": False,
        "BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    },
    "MIN_DETECTIONS": 8,
    "MAX_DETECTIONS": 10,
    "SIZE_DIVISIBILITY": 0,
}
ATTRIBUTES = {
    "roi_heads.box_predictor.cls_embedding.weight": (8, 8),
    "roi_heads.box_predictor.fc_attr.weight": (16, 72),
    "roi_heads.box_predictor.fc_attr.bias": (16,),
    "roi_heads.box_predictor.attr_score.weight": (6, 16),
    "roi_heads.box_predictor.attr_score.bias": (6,),
}
"""The tensors of the published file that only predict attributes -> their shapes in the tiny detector."""


def draw_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return a tensor for each name, the same on every machine; the anchors are those of CONFIG."""
    draw = np.random.RandomState(0)
    weights: dict[str, Tensor] = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = draw.standard_normal(shape)
        if name.endswith("num_batches_tracked"):
            values = np.zeros(shape)
        elif name.endswith("running_var"):
            values = (0.5 + draw.random_sample(shape)) * (3000 if "stem" in name else 1)
        elif name.endswith("conv3.norm.weight"):
            values = 0.3 * draw.random_sample(shape)
        elif name.endswith("norm.weight"):
            values = 0.5 + 0.5 * draw.random_sample(shape)
        elif len(shape) > 1:
            values = values * (3 if "cls_score" in name else 1.4) / np.prod(shape[1:]) ** 0.5
        else:
            values = 0.1 * values
        if "cell_anchors" in name:
            values = draw_anchors()
        kind = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        weights[name] = torch.tensor(values, dtype=kind)
    return weights


def draw_anchors() -> np.ndarray:
    """Return the anchors of CONFIG: each size and each shape, around 0."""
    settings = CONFIG["ANCHOR_GENERATOR"]
    pairs = [(size, ratio**0.5) for size in settings["SIZES"][0] for ratio in settings["ASPECT_RATIOS"][0]]
    sides = [(size / root, size * root) for size, root in pairs]
    return np.array([[-width / 2, -height / 2, width / 2, height / 2] for width, height in sides])


def draw_picture(height: int = 90, width: int = 130) -> np.ndarray:
    """Return a picture of rectangles in drawn colours, uint8 [height, width, 3]."""
    draw = np.random.RandomState(1)
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    for _ in range(12):
        top, left = draw.randint(0, height - 20), draw.randint(0, width - 20)
        picture[top : top + draw.randint(10, 50), left : left + draw.randint(10, 60)] = draw.randint(0, 256, 3)
    return picture


def save_detector(folder: Path, shapes: Mapping[str, tuple[int, ...]], **changes: Any) -> Path:
    """Write the folder of the tiny detector; `changes` replace entries of its config."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps({**CONFIG, **changes}))  # JSON is YAML too
    torch.save(draw_weights({**shapes, **ATTRIBUTES}), folder / "pytorch_model.bin")
    return folder
