"""ONNX, through torch's dynamo exporter: the sizes of batch, question and regions are dynamic.

A model is traced, its constants are folded, its steps are fused, and its precision is reduced, in this order: fusions
and quantisers look for stored matrices, which folding makes. Fixed shapes come last, because the checks and the
calibration of the other stages take batches of many shapes. Each stage reads the file of the stage before, so that the
memory holds one copy of the weights at a time.

A model that reads a picture whole reads it as one region of a fixed size. A model that reads N images for each question
takes N rows for each question, so the number of rows is a multiple of N. The ONNX file states that.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, helper, numpy_helper
from torch import Tensor, nn

from lxcompress.data.split import Inputs
from lxcompress.errors import ExportError
from lxcompress.exporters.fix import BATCH, OBJECTS, TOKENS, fix_shapes
from lxcompress.exporters.fold import fold_constants, opset_of
from lxcompress.exporters.formats import NEWEST_OPSET, OLDEST_OPSET, Feeds, Job, WrittenFiles, check_opset
from lxcompress.exporters.four_bits import packed_shapes, to_int4, unpack
from lxcompress.exporters.fuse import fuse_where_true, give_back
from lxcompress.exporters.products import count_in, shapes_of, steps_of
from lxcompress.exporters.quantise import to_half, to_int8, to_int8_static
from lxcompress.exporters.traced import Answer
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet
from lxcompress.rundir import write_whole
from lxcompress.shapes import FixedShape
from lxcompress.text import first_line

MODEL_FILE = "model.onnx"
DATA_FILE = MODEL_FILE + ".data"
OUTPUT = "scores"
MOST_BYTES_IN_ONE_FILE = 1_900_000_000
"""A protobuf file has at most 2 GB, so the weights of larger models are written to model.onnx.data."""
FUSION_BATCHES = 2
"""The number of calibration batches on which a fused file must give the same answers, in addition to the example."""


def write(job: Job) -> WrittenFiles:
    """Write model.onnx in the precision of the job. Raises ExportError."""
    check_opset(job.opset)
    job.out.mkdir(parents=True, exist_ok=True)
    # The temporary folder is in the output folder: the files of a full-size model may not fit into /tmp.
    with tempfile.TemporaryDirectory(dir=job.out, prefix=".") as folder:
        stage = Path(folder)
        # int8-static has other fusions, so it cannot be made from the fp32 file.
        if job.fp32 and job.precision != "int8-static":
            path, notes = job.fp32 / MODEL_FILE, [f"made of the fp32 file in {job.fp32.name}"]
        else:
            path, notes = _write_fp32(job, stage)
            give_back()
        job.progress(f"writing it in {job.precision}")
        path, more = _narrow(path, stage / "narrow", job)
        if job.fixed:
            path = _fix(path, stage / "fixed", job.fixed, job.model)
        return WrittenFiles(move(path.parent, job.out), [*notes, *more])


def _write_fp32(job: Job, stage: Path) -> tuple[Path, list[str]]:
    """Trace the model, and fuse its steps if the job says so; return the file in `stage`, and notes for the user."""
    job.progress("tracing the model")
    path = save(trace(job.model, job.example, job.opset), stage / "plain")
    give_back()
    if not job.fuse:
        return path, []
    job.progress("fusing its steps")
    # Fused attention cannot be quantised with static ranges: its three products would stay in fp32.
    path, note = fuse_where_true(path, _fusion_feeds(job), save, attention=job.precision != "int8-static")
    return path, [note]


def write_onnx(model: Model, example: Inputs, out: Path) -> list[Path]:
    """Write the traced model in fp32, without fusions, to the folder `out`; return its files.

    `example` has two questions or more. Raises ExportError if torch cannot export it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as folder:
        return move(save(trace(model, example), Path(folder)).parent, out)


def write_module(module: nn.Module, inputs: Mapping[str, Tensor], out: Path) -> Path:
    """Write any module as model.onnx in `out`, for inputs of exactly these names and shapes. Raises ExportError."""
    try:
        with quiet("torch.onnx", "onnxscript", "onnx_ir", level=logging.CRITICAL), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=[OUTPUT],
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise ExportError(
            f"torch could not export the network to ONNX ({first_line(error)}); report this message as a bug of "
            "lxcompress"
        ) from error
    assert program is not None
    traced = program.model_proto
    fold_constants(traced)
    return save(traced, out)


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of the file."""
    graph = onnx.load(out / MODEL_FILE).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    packed = packed_shapes(graph)

    def read(name: str) -> np.ndarray:
        values = numpy_helper.to_array(stored[name], base_dir=str(out))
        return unpack(values)[:, : packed[name][1]] if name in packed else values

    return count_in(steps_of(graph), shapes_of(graph) | packed, OUTPUT, read)


def trace(model: Model, example: Inputs, opset: int | None = None) -> ModelProto:
    """Return the model as ONNX steps with folded constants, without fusions.

    Raises ExportError if torch cannot export the model, or cannot write the `opset`.
    """
    check_opset(opset)
    try:
        with quiet("torch.onnx", "onnxscript", "onnx_ir", level=logging.CRITICAL), torch.no_grad():
            program = torch.onnx.export(
                Answer(model),
                tuple(example),
                dynamo=True,
                dynamic_shapes=_dynamic_shapes(model),
                input_names=list(example._fields),
                output_names=[OUTPUT],
                opset_version=opset,
                verbose=False,
            )
            assert program is not None
            _name_batch(program)
            traced = program.model_proto
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        first = first_line(error)
        raise ExportError(
            f"torch could not export the model to ONNX ({first}); report this message as a bug of lxcompress"
        ) from error
    # If torch cannot convert to the opset, it returns a model in its own opset, and only logs the failure.
    if opset is not None and opset_of(traced) != opset:
        raise _no_opset(opset)
    _forget_where(traced.graph)
    fold_constants(traced)
    return traced


def save(model: ModelProto, folder: Path) -> Path:
    """Write the model to model.onnx in `folder`; return the path of that file.

    Weights that are too large for one file are written to model.onnx.data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    model.ir_version = ir_version_of(model)
    is_large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MOST_BYTES_IN_ONE_FILE
    onnx.save(model, path, save_as_external_data=is_large, location=DATA_FILE)
    return path


def ir_version_of(model: ModelProto) -> int:
    """Return the version of ONNX's file format that was published with the model's opset (opset 17: version 8).

    A runtime refuses a file with a later format version than its own, even if it knows all operators in the file.
    """
    return helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)


def _date(path: Path) -> None:
    """Set the format version of the file to the one of its opset; a quantiser may have written a later version."""
    model = onnx.load(path, load_external_data=False)
    wanted = ir_version_of(model)
    if model.ir_version != wanted:
        model.ir_version = wanted
        onnx.save(model, path)


def _narrow(path: Path, folder: Path, job: Job) -> tuple[Path, list[str]]:
    """Convert the fp32 file at `path` to the job's precision, in `folder`.

    Returns the new file (for fp32, `path`), and notes for the user.
    """
    if job.precision == "fp32":
        return path, []
    if job.precision == "fp16":
        return save(to_half(onnx.load(path)), folder), []
    if job.precision == "int4":
        model = onnx.load(path)
        notes = to_int4(model)
        return save(model, folder), notes
    folder.mkdir()
    if job.precision == "int8":
        to_int8(path, folder / MODEL_FILE)
    else:
        to_int8_static(path, folder / MODEL_FILE, job.calibration())
    _date(folder / MODEL_FILE)
    return folder / MODEL_FILE, []


def _fix(path: Path, folder: Path, shape: FixedShape, model: Model) -> Path:
    """Write the file at `path` with fixed input shapes to `folder`; return the new file."""
    give_back()
    graph = onnx.load(path)
    fix_shapes(graph.graph, shape, images=model.family.count_images(model.config))
    return save(graph, folder)


def _fusion_feeds(job: Job) -> Iterator[Feeds]:
    """Yield the feeds of the fusion check: the example, its first question alone, and FUSION_BATCHES batches.

    The batches are those of the calibration.
    """
    images = job.model.family.count_images(job.model.config)
    yield job.example.numpy()
    yield {name: array[:images] for name, array in job.example.numpy().items()}
    yield from islice(job.calibration(), FUSION_BATCHES)


def move(folder: Path, out: Path) -> list[Path]:
    """Move model.onnx.data (if there is one) and model.onnx to `out`; return the new paths, model.onnx first.

    model.onnx is moved last, so that it never stands without its weights.
    """
    moved = []
    for name in (DATA_FILE, MODEL_FILE):
        if (folder / name).is_file():
            write_whole(out / name, partial(os.replace, folder / name))
            moved.append(out / name)
        else:
            (out / name).unlink(missing_ok=True)  # left by an earlier, larger model
    return moved[::-1]


def _no_opset(opset: int) -> ExportError:
    return ExportError(
        f"--opset {opset}: torch {torch.__version__} cannot write this model in that version of ONNX's operators; "
        f"give another from {OLDEST_OPSET} to {NEWEST_OPSET}, or none"
    )


def _forget_where(graph: GraphProto) -> None:
    """Remove the notes that name each step's Python source, in place.

    They show paths of this machine, and take a third of a small file.
    """
    graph.ClearField("doc_string")
    for part in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")


def _dynamic_shapes(model: Model) -> tuple[dict[int, torch.export.Dim], ...]:
    """Return the axes of each input that may vary, in the order of Inputs."""
    images = model.family.count_images(model.config)
    batch = torch.export.Dim(BATCH, min=1, max=1 << 16)
    tokens = torch.export.Dim(TOKENS, min=1, max=model.family.count_positions(model.config))
    objects = torch.export.Dim(OBJECTS, min=1, max=1 << 10)
    rows = batch if images == 1 else images * batch
    is_picture = model.family.picture_size(model.config) is not None
    words, regions = {0: rows, 1: tokens}, {0: rows} if is_picture else {0: rows, 1: objects}
    return words, words, regions, regions, regions


def _name_batch(program: torch.onnx.ONNXProgram) -> None:
    """Name the first axis of the output "batch", in place.

    If a question has several rows, no input has that axis (only a multiple of it), and the exporter invents a name.
    """
    graph = program.model.graph
    given = graph.outputs[0].shape
    assert given is not None
    first = given[0]
    assert not isinstance(first, int)
    for shape in (value.shape for node in graph for value in node.outputs if value.shape is not None):
        for axis, size in enumerate(shape):
            if getattr(size, "value", size) == first.value:
                shape[axis] = BATCH
