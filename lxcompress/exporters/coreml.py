"""Core ML: model.mlpackage, an ML program for Apple's systems that leaves out the zeros of its weights.

A matrix with enough zeros is stored as one bit for each weight, which says whether the weight is kept, and the values
of the kept weights. Core ML decompresses the matrix when it loads the file, or when it computes a product. In int8 the
values have 8 bits and there is a scale for each row. An int8 file that leaves out zeros needs iOS 18, any other file
needs iOS 17. Conversion runs on every system, prediction on Apple's systems only.
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
from lxcompress.exporters.traced import first_question, fixed_question, trace
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet, quiet_tqdm
from lxcompress.text import first_line
from lxcompress.writing import WriteError

PACKAGE = "model.mlpackage"
OUTPUT = "scores"
MOST_OBJECTS = 100
"""The bound on the regions of a picture, unless the data have more: detectors keep 100 at most."""
BREAK_EVEN = {"fp32": 1 / 32, "fp16": 1 / 16, "int8": 1 / 8}
"""Precision -> the fraction of zeros above which one bit for each weight takes less space than the stored zeros."""
SMALLEST = 64
"""The fewest elements of a tensor that is compressed; in a smaller tensor the names take more than is saved."""
SYSTEMS = {"iOS17": "iOS 17 or macOS 14", "iOS18": "iOS 18 or macOS 15"}
"""Deployment target -> the names of the systems, for a note."""
MASKED, WIDEST_HALF = -1e4, 65504.0
"""The number that is added to the attention score of a masked position, and the largest number of half precision."""
_TALKATIVE = ("coremltools", "transformers", "torch")


def write(job: Job) -> WrittenFiles:
    """Write model.mlpackage. Raises ExportError."""
    is_sparse = _share_of_zeros(job.model) > BREAK_EVEN[job.precision]
    system = "iOS18" if is_sparse and job.precision == "int8" else "iOS17"
    problem, path = None, None
    with quiet_coremltools():
        try:
            tools = _import_tools()
            path = _save(_compress(_convert(job, tools, system), job, is_sparse=is_sparse), job.out)
        except Exception as error:  # coremltools raises errors of many types
            problem = first_line(error)
    # Raised outside of the except block, where the caught error would keep temporary folders of coremltools alive.
    if path is None and "FileWriter" in str(problem):  # the only word of coremltools about a full disk
        raise WriteError(
            f"{job.out}: cannot be written (Core ML Tools: {problem}); free some space there and in the folder of "
            "temporary files, and run the same command"
        )
    if path is None:
        raise ExportError(
            f"{job.out}: Core ML Tools could not convert the model ({problem}); export the model to another "
            "format, and report this message as a bug of lxcompress"
        )
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return WrittenFiles(files, _notes(job, system, is_sparse=is_sparse))


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of the package.

    The package is read with coremltools, which expands sparse matrices. Embeddings are not counted, because they are
    looked up rather than multiplied. The output layer is the last product, and is left out.
    """
    counts = _count_matrices(out / PACKAGE)[:-1]
    return sum(zeros for zeros, _ in counts), sum(elements for _, elements in counts)


def convert_tiny() -> None:
    """Convert a model of one product, to test coremltools; every error of the library is passed on."""
    with quiet_coremltools():
        import coremltools as tools

        graph = torch.jit.trace(torch.nn.Linear(2, 1).eval(), torch.ones(1, 2))
        tools.convert(graph, inputs=[tools.TensorType(shape=(1, 2))], convert_to="mlprogram", skip_model_load=True)


def _import_tools() -> ModuleType:
    """Import the parts of coremltools that this module uses, and return coremltools.

    Call it within `quiet_coremltools`: some parts print when they are imported.
    """
    import coremltools
    import coremltools.converters.mil.frontend.milproto.load
    import coremltools.optimize.coreml

    return coremltools


def _share_of_zeros(model: Model) -> float:
    """Return the fraction of prunable weights that are zero, 0-1."""
    tensors = model.prunable.values()
    return 1 - sum(int(tensor.count_nonzero()) for tensor in tensors) / sum(tensor.numel() for tensor in tensors)


def _convert(job: Job, tools: ModuleType, system: str) -> Any:
    """Return the model as an ML program for one question, of the fixed shape or of any shape up to the bounds."""
    question = (
        fixed_question(job.model, job.example, job.fixed) if job.fixed else first_question(job.model, job.example)
    )
    example = _narrow(question)
    shapes = [tensor.shape for tensor in example] if job.fixed else _shapes(job, example, tools)
    full = job.precision == "fp32"
    return tools.convert(
        trace(job.model, example) if full else within_half(trace(job.model, example)),
        inputs=[
            tools.TensorType(name=name, shape=shape, dtype=tensor.numpy().dtype)
            for (name, tensor), shape in zip(example._asdict().items(), shapes, strict=True)
        ],
        outputs=[tools.TensorType(name=OUTPUT, dtype=np.float32)],
        convert_to="mlprogram",
        minimum_deployment_target=tools.target[system],
        compute_precision=tools.precision.FLOAT32 if full else tools.precision.FLOAT16,
        skip_model_load=True,  # nothing on this system could load it
    )


def within_half(graph: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Change the graph's mask constants to numbers that half precision can hold; return the graph.

    transformers masks a position by adding (1 - mask) times the lowest float32. In half precision the lowest float32 is
    minus infinity. Minus infinity times 0 is NaN, so Core ML would answer with NaN only.
    """
    parts = (part for part in graph.modules() if isinstance(part, torch.jit.ScriptModule))
    for module in (part for part in parts if part._c._has_method("forward")):  # a ModuleList has none
        for node in module.graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]  # not in torch's stub
            kind = node.kindOf("value") if node.hasAttribute("value") else ""
            if kind == "f" and node.f("value") < -WIDEST_HALF:
                node.f_("value", MASKED)
            elif kind == "t" and node.t("value").is_floating_point():
                value = node.t("value")
                node.t_("value", torch.where(value < -WIDEST_HALF, MASKED, value))
    return graph


def _narrow(inputs: Inputs) -> Inputs:
    """Return the inputs with 32-bit integers, the widest that Core ML takes."""
    return Inputs(*(tensor if tensor.is_floating_point() else tensor.to(torch.int32) for tensor in inputs))


def _shapes(job: Job, example: Inputs, tools: ModuleType) -> tuple[tuple[Any, ...], ...]:
    """Return the shape of each input, in the order of Inputs.

    The first dimension is fixed: one row for each image of a question. The numbers of tokens and regions are ranges.
    """
    rows, features = len(example.input_ids), job.model.family.feature_size(job.model.config)
    tokens: Any = tools.RangeDim(
        1, job.model.family.count_positions(job.model.config), default=example.input_ids.shape[1]
    )
    objects: Any = 1
    if job.model.family.picture_size(job.model.config) is None:
        seen = example.visual_feats.shape[1]
        objects = tools.RangeDim(1, max(MOST_OBJECTS, seen), default=seen)
    return (rows, tokens), (rows, tokens), (rows, objects, features), (rows, objects, 4), (rows, objects)


def _compress(program: Any, job: Job, *, is_sparse: bool) -> Any:
    """Return the program, without stored zeros if `is_sparse`, and with 8-bit weights if the precision is int8."""
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
        # joint_compression says that weights may be sparse already: otherwise sparse weights would not be quantised.
        program = optimize.linear_quantize_weights(program, config, joint_compression=is_sparse)
    return program


def _save(program: Any, out: Path) -> Path:
    """Write the package to the folder `out`, where it replaces an earlier one; return its path."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / PACKAGE
    shutil.rmtree(path, ignore_errors=True)
    program.save(str(path))
    _fix_bytes(path)
    for file in path.rglob("*"):  # some files are readable by their owner only
        file.chmod((path if file.is_dir() else path / "Manifest.json").stat().st_mode)
    return path


def _fix_bytes(package: Path) -> None:
    """Rewrite the program and the manifest in a fixed order, without the date and with identifiers that stay the same.

    The same model then always gives the same bytes.
    """
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
    """Return the notes for the user about the package: the systems that it needs, and its limits."""
    tokens = job.model.family.count_positions(job.model.config)
    limits = "" if job.fixed else f"; one question at a time, of up to {tokens} tokens"
    notes = [f"needs {SYSTEMS[system]}{limits}"]
    if is_sparse:
        notes.append("zeros are left out of the weights: a bit for each weight, and the values of those that are kept")
    return notes


def _count_matrices(package: Path) -> list[tuple[int, int]]:
    """Return [(zeros, elements)] of the stored matrices that products read, in the order of their first use."""
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
    """Return the stored matrices that an operation multiplies with; empty if it is not a product."""
    names = {"linear": ("weight",), "matmul": ("x", "y")}.get(operation.op_type, ())
    inputs = [operation.inputs[name] for name in names]
    return [
        entry for entry in inputs if entry.op is not None and entry.op.op_type.startswith("const") and entry.rank == 2
    ]


def _values(variable: Any) -> np.ndarray:
    """Return the values of a constant; a compressed constant is expanded."""
    if variable.op.op_type == "const":
        return np.asarray(variable.val)
    return np.asarray(variable.op.materialized_val_inference())


@contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Hide coremltools' progress bars, and its warnings about untested versions and missing libraries of Apple."""
    with quiet_tqdm(), quiet(*_TALKATIVE, level=logging.CRITICAL):
        yield
