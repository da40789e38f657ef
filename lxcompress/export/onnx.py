"""ONNX, through torch's dynamo exporter: dynamic batch, question length and regions; one file where it can be.

A model that reads a picture whole reads it as one region of a fixed size.
A model that reads N images a question takes N rows for each, so its batches are multiples of N: the file says so.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from lxcompress.data.split import Inputs
from lxcompress.errors import ExportError
from lxcompress.export.formats import Job, Written
from lxcompress.models.checkpoints import Model
from lxcompress.rundir import write_whole

MODEL_FILE = "model.onnx"
OUTPUT = "scores"
BATCH = "batch"
"""Questions, which are rows where each is about one image."""
MOST_BYTES_IN_ONE_FILE = 1_900_000_000
"""A protobuf file ends at 2 GB; beyond this the weights go to model.onnx.data beside it."""


def write_onnx(model: Model, example: Inputs, out: Path) -> list[Path]:
    """Writes the model to the folder `out`; returns its files. `example` has two questions or more.

    Raises ExportError if torch cannot export it.
    """
    wrapper = _Answer(model).eval()
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.weights.values())
    external = size > MOST_BYTES_IN_ONE_FILE
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                wrapper,
                tuple(example),
                dynamo=True,
                dynamic_shapes=_dynamic_shapes(model),
                input_names=list(example._fields),
                output_names=[OUTPUT],
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ExportError(
            f"{out}: torch could not export the model to ONNX ({first}); report it with this line"
        ) from error
    assert program is not None
    _name_batch(program)
    out.mkdir(parents=True, exist_ok=True)
    path = out / MODEL_FILE
    if external:
        with _quiet():
            program.save(path, external_data=True)
    else:
        write_whole(path, lambda part: onnx.save(program.model_proto, part))
    data = path.with_name(MODEL_FILE + ".data")
    if not external:
        data.unlink(missing_ok=True)
    return [path, *([data] if external else [])]


def write(job: Job) -> Written:
    """Writes model.onnx. Raises ExportError."""
    return Written(write_onnx(job.model, job.example, job.out))


def count_zeros(out: Path) -> tuple[int, int]:
    """Zeros, and elements, of the matrices in the file itself, embeddings and output layer apart."""
    zeros = elements = 0
    graph = onnx.load(out / MODEL_FILE).graph
    last = _find_output_layer(graph)
    for tensor in graph.initializer:
        is_matrix = len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT
        if is_matrix and not tensor.name.endswith("_embeddings.weight") and tensor.name != last:
            values = numpy_helper.to_array(tensor, base_dir=str(out))
            zeros += values.size - int(np.count_nonzero(values))
            elements += values.size
    return zeros, elements


def _find_output_layer(graph: onnx.GraphProto) -> str:
    """The name of the matrix that the last product reads: all else feeds it, so it stands last.

    The exporter gives some matrices names of its own, so that the layer's name would not find it.
    """
    stored = {tensor.name for tensor in graph.initializer}
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    read = [turned.get(name, name) for node in products for name in node.input[:2]]
    return [name for name in read if name in stored][-1]


class _Answer(nn.Module):
    """The model as the exporter traces it: plain tensors in, scores out."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.module = model.module
        self.answer = model.family.answer

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        visual_feats: Tensor,
        visual_pos: Tensor,
        visual_attention_mask: Tensor,
    ) -> Tensor:
        inputs = Inputs(input_ids, attention_mask, visual_feats, visual_pos, visual_attention_mask)
        return self.answer(self.module, inputs)


def _dynamic_shapes(model: Model) -> tuple[dict[int, torch.export.Dim], ...]:
    """Which axes may vary, in the order of the inputs."""
    images = model.family.count_images(model.config)
    batch = torch.export.Dim(BATCH, min=1, max=1 << 16)
    tokens = torch.export.Dim("tokens", min=1, max=model.config.max_position_embeddings)
    objects = torch.export.Dim("objects", min=1, max=1 << 10)
    rows = batch if images == 1 else images * batch
    is_picture = model.family.picture_size(model.config) is not None
    words, regions = {0: rows, 1: tokens}, {0: rows} if is_picture else {0: rows, 1: objects}
    return words, words, regions, regions, regions


def _name_batch(program: torch.onnx.ONNXProgram) -> None:
    """Names the output's first axis: the exporter makes a name up where the inputs have it as a multiple only."""
    graph = program.model.graph
    found = graph.outputs[0].shape[0].value
    for value in (value for node in graph for value in node.outputs if value.shape is not None):
        for axis, size in enumerate(value.shape):
            if getattr(size, "value", size) == found:
                value.shape[axis] = BATCH


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on torch's own internals, which no user can act on."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
