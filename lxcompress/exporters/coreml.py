"""Core ML: model.mlpackage, an ML program for Apple's systems, its zeros left out of the weights.

A matrix with zeros enough is stored as a bit a weight, which says where there are some, and the values of the others;
Core ML decompresses it as it loads, or as it computes. In int8 the values are 8-bit numbers with a scale a row, which
together with the bits takes iOS 18; all else takes iOS 17. Conversion runs anywhere, prediction on Apple's systems
only.
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from lxcompress.data.split import Inputs
from lxcompress.errors import ExportError
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.traced import first_question, trace
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet, quiet_tqdm
from lxcompress.text import first_line

PACKAGE = "model.mlpackage"
OUTPUT = "scores"
MOST_OBJECTS = 100
"""Regions of a picture, if the data has no more: detectors keep 100 at most."""
BREAK_EVEN = {"fp32": 1 / 32, "fp16": 1 / 16, "int8": 1 / 8}
"""Share of zeros from which a bit for each weight is less than the zeros take."""
SMALLEST = 64
"""Elements of a tensor from which it is worth a form of its own: below, the names alone take more than is saved."""
SYSTEMS = {"iOS17": "iOS 17 or macOS 14", "iOS18": "iOS 18 or macOS 15"}
"""What a deployment target means."""
MASKED, WIDEST_HALF = -1e4, 65504.0
"""What is added to the score of what an attention mask hides, and the largest number of half precision."""
_TALKATIVE = ("coremltools", "transformers", "torch")


def write(job: Job) -> WrittenFiles:
    """Writes model.mlpackage. Raises ExportError."""
    is_sparse = _share_of_zeros(job.model) > BREAK_EVEN[job.precision]
    system = "iOS18" if is_sparse and job.precision == "int8" else "iOS17"
    problem, path = None, None
    with quiet_coremltools():
        try:
            tools = _import_tools()
            path = _save(_compress(_convert(job, tools, system), job, is_sparse=is_sparse), job.out)
        except Exception as error:  # coremltools raises whatever its parts do
            problem = first_line(error)
    # Raised here, not there: the error holds on to temporary folders of coremltools, which complains as they are found.
    if path is None:
        raise ExportError(
            f"{job.out}: Core ML Tools could not convert the model ({problem}); export it to another format, and "
            "report it with this line"
        )
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return WrittenFiles(files, _notes(job, system, is_sparse=is_sparse))


def count_zeros(out: Path) -> tuple[int, int]:
    """Zeros, and elements, of the matrices in the package itself, embeddings and output layer apart.

    Sparse ones are read as Core ML's own definition of them says. Embeddings are looked up, not multiplied, and the
    output layer is the last product: all else feeds it.
    """
    counts = _count_matrices(out / PACKAGE)[:-1]
    return sum(zeros for zeros, _ in counts), sum(elements for _, elements in counts)


def convert_tiny() -> None:
    """Converts one product; raises whatever goes wrong where the library does not work."""
    with quiet_coremltools():
        import coremltools as tools

        graph = torch.jit.trace(torch.nn.Linear(2, 1).eval(), torch.ones(1, 2))
        tools.convert(graph, inputs=[tools.TensorType(shape=(1, 2))], convert_to="mlprogram", skip_model_load=True)


def _import_tools() -> ModuleType:
    """coremltools, with all that is used of it here: some of it speaks up as it is imported."""
    import coremltools
    import coremltools.converters.mil.frontend.milproto.load
    import coremltools.optimize.coreml

    return coremltools


def _share_of_zeros(model: Model) -> float:
    """Of the prunable weights, 0-1."""
    tensors = model.prunable.values()
    return 1 - sum(int(each.count_nonzero()) for each in tensors) / sum(each.numel() for each in tensors)


def _convert(job: Job, tools: ModuleType, system: str) -> Any:
    """The model as an ML program, its tokens and regions free up to their bounds."""
    example = _narrow(first_question(job.model, job.example))
    full = job.precision == "fp32"
    return tools.convert(
        trace(job.model, example) if full else within_half(trace(job.model, example)),
        inputs=[
            tools.TensorType(name=name, shape=shape, dtype=tensor.numpy().dtype)
            for (name, tensor), shape in zip(example._asdict().items(), _shapes(job, example, tools), strict=True)
        ],
        outputs=[tools.TensorType(name=OUTPUT, dtype=np.float32)],
        convert_to="mlprogram",
        minimum_deployment_target=tools.target[system],
        compute_precision=tools.precision.FLOAT32 if full else tools.precision.FLOAT16,
        skip_model_load=True,  # there is nothing here that could load it
    )


def within_half(graph: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """The graph, with masks that half precision can hold.

    transformers hides by adding 1 - mask times float32's lowest number. In half precision that is minus infinity, which
    times 0 is no number, and Core ML would answer with nothing else.
    """
    for module in (each for each in graph.modules() if each._c._has_method("forward")):  # a list of layers has none
        for node in module.graph.findAllNodes("prim::Constant"):
            kind = node.kindOf("value") if node.hasAttribute("value") else ""
            if kind == "f" and node.f("value") < -WIDEST_HALF:
                node.f_("value", MASKED)
            elif kind == "t" and node.t("value").is_floating_point():
                value = node.t("value")
                node.t_("value", torch.where(value < -WIDEST_HALF, MASKED, value))
    return graph


def _narrow(inputs: Inputs) -> Inputs:
    """The inputs with 32-bit whole numbers, which are the widest that Core ML takes."""
    return Inputs(*(tensor if tensor.is_floating_point() else tensor.to(torch.int32) for tensor in inputs))


def _shapes(job: Job, example: Inputs, tools: ModuleType) -> tuple[tuple[Any, ...], ...]:
    """The shape of each input, in their order: so many rows as a question has images, and what may vary in between."""
    rows, features = len(example.input_ids), job.model.family.feature_size(job.model.config)
    tokens: Any = tools.RangeDim(1, job.model.config.max_position_embeddings, default=example.input_ids.shape[1])
    objects: Any = 1
    if job.model.family.picture_size(job.model.config) is None:
        seen = example.visual_feats.shape[1]
        objects = tools.RangeDim(1, max(MOST_OBJECTS, seen), default=seen)
    return (rows, tokens), (rows, tokens), (rows, objects, features), (rows, objects, 4), (rows, objects)


def _compress(program: Any, job: Job, *, is_sparse: bool) -> Any:
    """The program with its zeros left out where there are enough, and with 8-bit weights where those are asked for."""
    from coremltools.optimize import coreml as optimize

    if is_sparse:
        job.progress("leaving zeros out")
        zeros = optimize.OpThresholdPrunerConfig(
            threshold=0.0, minimum_sparsity_percentile=BREAK_EVEN[job.precision], weight_threshold=SMALLEST
        )
        program = optimize.prune_weights(program, optimize.OptimizationConfig(global_config=zeros))
    if job.precision == "int8":
        job.progress("quantising to int8")
        rows = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=SMALLEST)
        config = optimize.OptimizationConfig(global_config=rows)
        # "Joint" is what is sparse already: without the word, those weights would be left as they are.
        program = optimize.linear_quantize_weights(program, config, joint_compression=is_sparse)
    return program


def _save(program: Any, out: Path) -> Path:
    """Writes the package in the place of what was there."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / PACKAGE
    shutil.rmtree(path, ignore_errors=True)
    program.save(str(path))
    _fix_bytes(path)
    for each in path.rglob("*"):  # some of it is written for its owner's eyes alone
        each.chmod((path if each.is_dir() else path / "Manifest.json").stat().st_mode)
    return path


def _fix_bytes(package: Path) -> None:
    """Write the program and the manifest again in fixed order, without a date and random identifiers: the same model
    gives the same bytes."""
    from coremltools.proto import Model_pb2

    path, model = package / "Data" / "com.apple.CoreML" / "model.mlmodel", Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    model.description.metadata.userDefined.pop(_DATE, None)
    path.write_bytes(model.SerializeToString(deterministic=True))
    text = (package / "Manifest.json").read_text(encoding="utf-8")
    for identifier, item in json.loads(text)["itemInfoEntries"].items():
        text = text.replace(identifier, str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])))
    manifest = json.dumps(json.loads(text), indent=4, sort_keys=True)
    (package / "Manifest.json").write_text(manifest, encoding="utf-8")


_DATE = "com.github.apple.coremltools.conversion_date"


def _notes(job: Job, system: str, *, is_sparse: bool) -> list[str]:
    tokens = job.model.config.max_position_embeddings
    notes = [f"needs {SYSTEMS[system]}; one question at a time, of up to {tokens} tokens"]
    if is_sparse:
        notes.append("zeros are left out of the weights: a bit for each weight, and the values of those that are kept")
    return notes


def _count_matrices(package: Path) -> list[tuple[int, int]]:
    """Zeros, and elements, of the matrices that products read, in the order in which they are first read; each once."""
    with quiet_coremltools():
        tools = _import_tools()
        model = tools.models.MLModel(str(package), skip_model_load=True)
        program = tools.converters.mil.frontend.milproto.load.load(
            model.get_spec(),
            specification_version=model.get_spec().specificationVersion,
            file_weights_dir=model.weights_dir,
        )
        counts: dict[str, tuple[int, int]] = {}
        for operation in program.functions["main"].operations:
            for variable in _weights_of(operation):
                if variable.name not in counts:
                    values = _values(variable)
                    counts[variable.name] = values.size - int(np.count_nonzero(values)), values.size
        return list(counts.values())


def _weights_of(operation: Any) -> list[Any]:
    """The matrices that a product reads from the file."""
    names = {"linear": ("weight",), "matmul": ("x", "y")}.get(operation.op_type, ())
    inputs = [operation.inputs[name] for name in names]
    return [each for each in inputs if each.op is not None and each.op.op_type.startswith("const") and each.rank == 2]


def _values(variable: Any) -> np.ndarray:
    """What a variable stands for: a constant, or a compressed one put together again."""
    if variable.op.op_type == "const":
        return np.asarray(variable.val)
    return np.asarray(variable.op.materialized_val_inference())


@contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Hide coremltools' progress bars, and its warnings of untested versions and of Apple's missing libraries."""
    with quiet_tqdm(), quiet(*_TALKATIVE, level=logging.CRITICAL):
        yield
