"""Small real ONNX artifacts, built without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from lxcompress.machine import describe_machine
from lxcompress.records import Artifact, Parity
from lxcompress.rundir import sha256, write_record

FEATURES = 6


def build_artifact(
    folder: Path, *, width: int = 8, vocabulary: int = 30, name: str | None = None, **changes: object
) -> Path:
    """An artifact in `folder` that takes LXMERT's inputs; its file holds about 4 * vocabulary * width bytes.

    `changes` are made to its record.
    """
    folder.mkdir(parents=True)
    save(_model(width, vocabulary), folder / "model.onnx")
    fields = dict(
        name=name or folder.name,
        source="nowhere",
        cell=None,
        format="onnx",
        precision="fp32",
        files={"model.onnx": sha256(folder / "model.onnx")},
        size_bytes=(folder / "model.onnx").stat().st_size,
        answers=3,
        tokens=7,
        objects=5,
        feature_size=FEATURES,
        prunable_zeros=None,
        parity=Parity(questions=1, inputs="made", max_abs_difference=0.0, changed_answers=0, tolerance=1e-4),
        source_accuracy=None,
        accuracy=None,
        machine=describe_machine(),
    )
    write_record(folder / "artifact.json", Artifact(**{**fields, **changes}))
    return folder


def _model(width: int, vocabulary: int):
    """scores = mean(words) @ a + mean(masked features) @ b + mean(boxes) @ c, with every input taking part."""
    random = np.random.default_rng(0)

    def weights(label: str, *shape: int):
        return numpy_helper.from_array(random.standard_normal(shape, dtype=np.float32), label)

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["word_mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["word_mask", "last"], ["word_column"]),
        helper.make_node("Mul", ["words", "word_column"], ["kept_words"]),
        helper.make_node("ReduceMean", ["kept_words", "middle"], ["sentence"], keepdims=0),
        helper.make_node("MatMul", ["sentence", "a"], ["from_words"]),
        helper.make_node("Cast", ["visual_attention_mask"], ["object_mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["object_mask", "last"], ["object_column"]),
        helper.make_node("Concat", ["visual_feats", "visual_pos"], ["regions"], axis=2),
        helper.make_node("Mul", ["regions", "object_column"], ["kept_regions"]),
        helper.make_node("ReduceMean", ["kept_regions", "middle"], ["picture"], keepdims=0),
        helper.make_node("MatMul", ["picture", "b"], ["from_regions"]),
        helper.make_node("Add", ["from_words", "from_regions"], ["scores"]),
    ]
    ints, floats = TensorProto.INT64, TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info("input_ids", ints, ["B", "L"]),
            helper.make_tensor_value_info("attention_mask", ints, ["B", "L"]),
            helper.make_tensor_value_info("visual_feats", floats, ["B", "O", FEATURES]),
            helper.make_tensor_value_info("visual_pos", floats, ["B", "O", 4]),
            helper.make_tensor_value_info("visual_attention_mask", ints, ["B", "O"]),
        ],
        [helper.make_tensor_value_info("scores", floats, ["B", 3])],
        [
            weights("table", vocabulary, width),
            weights("a", width, 3),
            weights("b", FEATURES + 4, 3),
            numpy_helper.from_array(np.array([-1]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
