"""ExecuTorch: model.pte, a program for phones that multiplies matrices with XNNPACK.

The memory of a program is planned when the program is written. So it answers one question at a time: of any number of
tokens and regions up to its bounds, for which the memory is planned, or of one fixed shape. int8 is dynamic: weights
have 8 bits and a scale for each row, activations are quantised at run time, and nothing is calibrated.
"""

from __future__ import annotations

import json
import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from lxcompress.data.split import Inputs
from lxcompress.errors import ExportError
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.traced import Answer, first_question, fixed_question
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet
from lxcompress.rundir import write_whole
from lxcompress.runtimes.executorch import MODEL_FILE
from lxcompress.shapes import FixedShape
from lxcompress.text import first_line, read_text

MOST_TOKENS, MOST_OBJECTS = 128, 100
"""The bounds on the tokens of a question and the regions of a picture, unless the data have more.

Detectors keep 100 regions at most.
"""
_TALKATIVE = ("torch", "torchao", "executorch", "transformers", "root")
_TYPES = {"xnn_datatype_fp32": np.float32, "xnn_datatype_qcint8": np.int8, "xnn_datatype_qint8": np.int8}
"""XNNPACK's name of a type -> numpy's type, for the matrices that this module writes."""


def write(job: Job) -> WrittenFiles:
    """Write model.pte. Raises ExportError."""
    try:
        with quiet(*_TALKATIVE):
            exported = _export_fixed(job, job.fixed) if job.fixed else _export_free(job)
            job.progress("lowering to XNNPACK")
            program = lower(exported)
    except Exception as error:  # torch.export, torchao and ExecuTorch raise errors of many types
        raise ExportError(
            f"{job.out}: ExecuTorch could not convert the model ({first_line(error)}); export the model to another "
            "format, and report this message as a bug of lxcompress"
        ) from error
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / MODEL_FILE
    write_whole(path, lambda part: _save(program, part))
    if job.fixed:
        return WrittenFiles([path])
    tokens, objects = _bounds(job.model, job.example)
    rows = job.model.family.count_images(job.model.config)
    return WrittenFiles([path], [_limits(rows, tokens, objects)], positions=tokens)


def write_module(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], out: Path) -> Path:
    """Write any module as model.pte in `out`, for inputs of exactly these shapes. Raises ExportError."""
    try:
        with quiet(*_TALKATIVE), torch.no_grad():
            program = lower(torch.export.export(module, inputs, strict=False))
    except Exception as error:  # torch.export and ExecuTorch raise errors of many types
        raise ExportError(
            f"{out}: ExecuTorch could not convert the network ({first_line(error)}); report this message as a bug of "
            "lxcompress"
        ) from error
    path = out / MODEL_FILE
    write_whole(path, lambda part: _save(program, part))
    return path


def lower(program: ExportedProgram) -> Any:
    """Return the program as ExecuTorch writes it; XNNPACK runs every step that it supports."""
    with quiet(*_TALKATIVE):
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        # The check accepts the core operators only, and would refuse other operators that the runtime can run.
        config = EdgeCompileConfig(_check_ir_validity=False)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], compile_config=config)
        return lowered.to_executorch()


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of the file.

    Embeddings are not counted, because they are looked up rather than multiplied. The output layer is the last product,
    and is left out.
    """
    with (out / MODEL_FILE).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        counts = [(int(values.size - np.count_nonzero(values)), values.size) for values in _matrices(data)]
    return sum(zeros for zeros, _ in counts[:-1]), sum(elements for _, elements in counts[:-1])


def _bounds(model: Model, example: Inputs) -> tuple[int, int | None]:
    """Return the program's bounds: the most tokens, and the most regions (None if the model reads pictures whole)."""
    tokens = min(model.family.count_positions(model.config), max(MOST_TOKENS, example.input_ids.shape[1]))
    if model.family.picture_size(model.config) is not None:
        return tokens, None
    return tokens, max(MOST_OBJECTS, example.visual_feats.shape[1])


def _limits(rows: int, tokens: int, objects: int | None) -> str:
    """Return the note for users that names a program's bounds; `rows` is the number of images of a question."""
    over = "a picture" if objects is None else f"1 to {objects} regions"
    images = "" if rows == 1 else f" of each of {rows} images"
    return f"one question at a time: 1 to {tokens} tokens over {over}{images}"


def _export_free(job: Job) -> ExportedProgram:
    """Return the model as torch exports it, for one question at a time of any shape within the bounds."""
    bounds = _bounds(job.model, job.example)
    example = _at_least_two(first_question(job.model, job.example), has_regions=bounds[1] is not None)
    return _export(job, example, _dynamic_shapes(*bounds))


def _export_fixed(job: Job, shape: FixedShape) -> ExportedProgram:
    """Return the model as torch exports it, for one question at a time of one shape."""
    return _export(job, fixed_question(job.model, job.example, shape), None)


def _export(job: Job, example: Inputs, shapes: tuple[dict[int, Dim], ...] | None) -> ExportedProgram:
    """Return the model as torch exports it; its weights are quantised if the job is int8.

    `shapes` are the axes of each input that may vary; None if none may.
    """
    inputs = tuple(example)
    with torch.no_grad():
        program = torch.export.export(Answer(job.model), inputs, dynamic_shapes=shapes, strict=False)
        if job.precision == "int8":
            job.progress("quantising to int8")
            program = torch.export.export(_quantise(program, inputs), inputs, dynamic_shapes=shapes, strict=False)
    return program


def _dynamic_shapes(most_tokens: int, most_objects: int | None) -> tuple[dict[int, Dim], ...]:
    """Return the axes of each input that may vary, in the order of Inputs."""
    words = {1: Dim("tokens", min=1, max=most_tokens)}
    regions = {} if most_objects is None else {1: Dim("objects", min=1, max=most_objects)}
    return words, words, regions, regions, regions


def _at_least_two(inputs: Inputs, *, has_regions: bool) -> Inputs:
    """Return the inputs, padded to at least two tokens and two regions: torch treats an axis of size 1 as constant."""
    words, regions = (inputs[:2], inputs[2:])
    padded = [torch.nn.functional.pad(word, (0, max(0, 2 - word.shape[1]))) for word in words]
    for region in regions:
        missing = max(0, 2 - region.shape[1]) if has_regions else 0
        padded.append(torch.nn.functional.pad(region, (0, missing) if region.dim() == 2 else (0, 0, 0, missing)))
    return Inputs(*padded)


def _quantise(program: ExportedProgram, example: tuple[torch.Tensor, ...]) -> torch.nn.Module:
    """Return the program with 8-bit weights and a scale for each row; it quantises activations at run time."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))
    prepared = prepare_pt2e(program.module(), quantizer)
    prepared(*example)  # this run measures the ranges of the weights
    return convert_pt2e(prepared)


def _save(program: Any, path: Path) -> None:
    with path.open("wb") as file:
        program.write_to_file(file)


def _matrices(data: mmap.mmap) -> Iterator[np.ndarray]:
    """Yield the matrices of the program's linear layers, in the order of their use.

    The file names a matrix by its content. So a matrix that two layers read is stored once, and is yielded once.
    """
    from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program
    from executorch.exir._serialize._program import _get_extended_header

    header = _get_extended_header(data[:64])
    program = _flatbuffer_to_program(data[: header.program_size])
    starts = [(header.segment_base_offset + segment.offset, segment.size) for segment in program.segments]
    named = {entry.key: starts[entry.segment_index] for entry in program.named_data}
    seen: set[str] = set()
    for graph in _graphs(data, program, starts):
        for key, kind in _filters(graph):
            start, size = named[key]
            values = np.frombuffer(data[start : start + size], dtype=_TYPES[kind])
            # Two matrices of zeros have the same content and so the same name, but both are counted.
            if key not in seen or not values.any():
                seen.add(key)
                yield values


def _graphs(data: mmap.mmap, program: Any, starts: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Yield the graphs that XNNPACK runs, in the order of their calls, as the JSON of XNNPACK's schema."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader, _get_schema_bytes
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    plan = program.execution_plan[0]
    steps = [step.instr_args for chain in plan.chains for step in chain.instructions]
    with tempfile.TemporaryDirectory() as folder:
        schema, packed, read = (Path(folder) / name for name in ("schema.fbs", "graph.bin", "graph.json"))
        schema.write_bytes(_get_schema_bytes())
        for step in steps:
            if type(step).__name__ == "DelegateCall":
                start, size = starts[plan.delegates[step.delegate_index].processed.index]
                blob = data[start : start + size]
                header = XNNHeader.from_bytes(blob[: XNNHeader.EXPECTED_LENGTH])
                packed.write_bytes(blob[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])
                _flatc_decompile(folder, str(schema), str(packed))
                yield json.loads(read_text(read))


def _filters(graph: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, XNNPACK type) of each matrix that a linear layer of the graph multiplies with."""
    unions = [value["xvalue_union"] for value in graph["xvalues"]]
    tensors = [union.get("tensor_value", union) for union in unions]
    by_id = {entry["id_out"]: entry for entry in tensors}
    for node in graph["xnodes"]:
        if node["xnode_union_type"] == "XNNFullyConnected":
            tensor = by_id[node["xnode_union"]["filter_id"]]
            yield graph["constant_data"][tensor["constant_buffer_idx"]]["named_key"], tensor["datatype"]
