"""Questions for the toy artifact, and a slow and obvious version of its graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tests.measure.artifacts import FEATURES


def draw_feeds(batch: int, tokens: int, objects: int, *, features: int = FEATURES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(batch)
    return {
        "input_ids": random.integers(0, 30, (batch, tokens)),
        "attention_mask": random.integers(0, 2, (batch, tokens)),
        "visual_feats": random.random((batch, objects, features), dtype=np.float32),
        "visual_pos": random.random((batch, objects, 4), dtype=np.float32),
        "visual_attention_mask": random.integers(0, 2, (batch, objects)),
    }


def answer_slowly(folder: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    weights = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(folder / "model.onnx").graph.initializer
    }
    words = weights["table"][feeds["input_ids"]] * feeds["attention_mask"][..., None]
    regions = np.concatenate([feeds["visual_feats"], feeds["visual_pos"]], axis=-1)
    seen = regions * feeds["visual_attention_mask"][..., None]
    return words.mean(axis=1) @ weights["a"] + seen.mean(axis=1) @ weights["b"]
