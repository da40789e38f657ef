"""ONNX, through torch's dynamo exporter: batch, question length and regions are dynamic.

A model is traced, its constants are folded, its steps are fused, and its precision is reduced, in this order:
quantisers and fusions look for stored matrices. Each stage reads the file of the one before, so that the memory holds
one copy of the weights at a time.

A model that reads a picture whole reads it as one region of a fixed size. A model that reads N images for each question
has N rows for each, so its batches are multiples of N, and the file says so.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import onnx
import torch
from onnx import GraphProto, ModelProto, helper, numpy_helper

from lxcompress.data.split import Inputs
from lxcompress.errors import ExportError
from lxcompress.exporters.fold import fold_constants, opset_of
from lxcompress.exporters.formats import NEWEST_OPSET, OLDEST_OPSET, Feeds, Job, WrittenFiles, check_opset
from lxcompress.exporters.fuse import fuse_where_true, give_back
from lxcompress.exporters.products import count_in, shapes_of, steps_of
from lxcompress.exporters.quantise import to_half, to_int8, to_int8_static
from lxcompress.exporters.traced import Answer
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet
from lxcompress.rundir import write_whole
from lxcompress.text import first_line

MODEL_FILE = "model.onnx"
DATA_FILE = MODEL_FILE + ".data"
OUTPUT = "scores"
BATCH = "batch"
"""The axis of questions; a question is one row if it is about one image."""
MOST_BYTES_IN_ONE_FILE = 1_900_000_000
"""A protobuf file has at most 2 GB; the weights of larger models are written to model.onnx.data."""
FUSION_BATCHES = 2
"""Batches of calibration questions, in addition to the example, for which a fused file must give the same answers."""


def write(job: Job) -> WrittenFiles:
    """Write model.onnx in the precision of the job. Raises ExportError."""
    check_opset(job.opset)
    job.out.mkdir(parents=True, exist_ok=True)
    # In the output folder: the files of a full-size model may be larger than the space in /tmp.
    with tempfile.TemporaryDirectory(dir=job.out, prefix=".") as folder:
        stage = Path(folder)
        # int8-static is fused in another way, so it cannot be made from the fp32 file.
        if job.fp32 and job.precision in ("fp16", "int8"):
            path, notes = job.fp32 / MODEL_FILE, [f"made of the fp32 file in {job.fp32.name}"]
        else:
            path, notes = _write_fp32(job, stage)
            give_back()
        job.progress(f"writing it in {job.precision}")
        path = _narrow(path, stage / "narrow", job)
        return WrittenFiles(move(path.parent, job.out), notes)


def _write_fp32(job: Job, stage: Path) -> tuple[Path, list[str]]:
    """Return the traced model's file, fused if the job says so, and the notes on it."""
    job.progress("tracing the model")
    path = save(trace(job.model, job.example, job.opset), stage / "plain")
    give_back()
    if not job.fuse:
        return path, []
    job.progress("fusing its steps")
    # Fused attention has no static form: its three products would stay fp32.
    path, note = fuse_where_true(path, _fusion_feeds(job), save, attention=job.precision != "int8-static")
    return path, [note]


def write_onnx(model: Model, example: Inputs, out: Path) -> list[Path]:
    """Write the traced model in fp32, without fusions, to the folder `out`; return its files.

    `example` has two questions or more. Raises ExportError if torch cannot export it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as folder:
        return move(save(trace(model, example), Path(folder)).parent, out)


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the zeros and the elements of the matrices in the file, without embeddings and output layer."""
    graph = onnx.load(out / MODEL_FILE).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    return count_in(
        steps_of(graph), shapes_of(graph), OUTPUT, lambda name: numpy_helper.to_array(stored[name], base_dir=str(out))
    )


def trace(model: Model, example: Inputs, opset: int | None = None) -> ModelProto:
    """Return the model as plain ONNX steps with folded constants.

    Raises ExportError, also for an `opset` that torch cannot write.
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
    if opset is not None and opset_of(traced) != opset:  # torch then returns the opset that it has, and only logs that
        raise _no_opset(opset)
    _forget_where(traced.graph)
    fold_constants(traced)
    return traced


def save(model: ModelProto, folder: Path) -> Path:
    """Write the model to model.onnx in `folder`; weights that are too large for one file go to a second one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MODEL_FILE
    model.ir_version = ir_version_of(model)
    is_large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > MOST_BYTES_IN_ONE_FILE
    onnx.save(model, path, save_as_external_data=is_large, location=DATA_FILE)
    return path


def ir_version_of(model: ModelProto) -> int:
    """Return the version of ONNX's file format that the model's operators came with.

    A runtime refuses a file of a later format than its own, though it knows the operators: 17 came with format 8.
    """
    return helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)


def _date(path: Path) -> None:
    """Set the file's format version to that of its operators; a tool may have written another."""
    model = onnx.load(path, load_external_data=False)
    wanted = ir_version_of(model)
    if model.ir_version != wanted:
        model.ir_version = wanted
        onnx.save(model, path)


def _narrow(path: Path, folder: Path, job: Job) -> Path:
    """Return the file in the job's precision, made from the fp32 file at `path`."""
    if job.precision == "fp32":
        return path
    if job.precision == "fp16":
        return save(to_half(onnx.load(path)), folder)
    folder.mkdir()
    if job.precision == "int8":
        to_int8(path, folder / MODEL_FILE)
    else:
        to_int8_static(path, folder / MODEL_FILE, job.calibration())
    _date(folder / MODEL_FILE)
    return folder / MODEL_FILE


def _fusion_feeds(job: Job) -> Iterator[Feeds]:
    """Yield the example, its first question alone, and some questions of the training data."""
    images = job.model.family.count_images(job.model.config)
    yield job.example.numpy()
    yield {name: array[:images] for name, array in job.example.numpy().items()}
    yield from islice(job.calibration(), FUSION_BATCHES)


def move(folder: Path, out: Path) -> list[Path]:
    """Move a model's files to `out`, the model itself last; return them."""
    moved = []
    for name in (DATA_FILE, MODEL_FILE):
        if (folder / name).is_file():
            write_whole(out / name, lambda part, source=folder / name: os.replace(source, part))
            moved.append(out / name)
        else:
            (out / name).unlink(missing_ok=True)  # of an earlier, larger model
    return moved[::-1]


def _no_opset(opset: int) -> ExportError:
    return ExportError(
        f"--opset {opset}: torch {torch.__version__} cannot write this model in that version of ONNX's operators; "
        f"give another from {OLDEST_OPSET} to {NEWEST_OPSET}, or none"
    )


def _forget_where(graph: GraphProto) -> None:
    """Remove the notes on the Python source of each step: they are private, and a third of a small file."""
    graph.ClearField("doc_string")
    for part in (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")


def _dynamic_shapes(model: Model) -> tuple[dict[int, torch.export.Dim], ...]:
    """Return the axes that may vary, in the order of the inputs."""
    images = model.family.count_images(model.config)
    batch = torch.export.Dim(BATCH, min=1, max=1 << 16)
    tokens = torch.export.Dim("tokens", min=1, max=model.config.max_position_embeddings)
    objects = torch.export.Dim("objects", min=1, max=1 << 10)
    rows = batch if images == 1 else images * batch
    is_picture = model.family.picture_size(model.config) is not None
    words, regions = {0: rows, 1: tokens}, {0: rows} if is_picture else {0: rows, 1: objects}
    return words, words, regions, regions, regions


def _name_batch(program: torch.onnx.ONNXProgram) -> None:
    """Name the output's first axis: the exporter makes a name up if the inputs have only a multiple of it."""
    graph = program.model.graph
    found = graph.outputs[0].shape[0].value
    for value in (value for node in graph for value in node.outputs if value.shape is not None):
        for axis, size in enumerate(value.shape):
            if getattr(size, "value", size) == found:
                value.shape[axis] = BATCH
