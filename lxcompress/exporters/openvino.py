"""OpenVINO's intermediate representation: model.xml has the graph, model.bin the weights.

The model is converted from torch directly. That keeps the names of the weights, and takes a fifth of the time of a
conversion through ONNX; scores and size are the same. Weights in fp16 are converted to fp32 when the file is loaded.
int8 is NNCF's post-training quantisation: weights have 8 bits and a scale for each row, and activations have 8 bits and
the ranges that were measured on the calibration questions.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from torch import Tensor, nn

from lxcompress.data.split import INPUT_NAMES
from lxcompress.errors import ExportError
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.traced import trace
from lxcompress.models.checkpoints import Model
from lxcompress.quiet import quiet
from lxcompress.runtimes.openvino import MODEL_FILE, SCORES
from lxcompress.writing import WriteError

WEIGHTS_FILE = "model.bin"
ANY = -1
_STEPS = ("Convert", "Multiply", "Subtract", "Transpose", "Reshape")
"""The operations that may be between a stored matrix and the product that reads it."""


def write(job: Job) -> WrittenFiles:
    """Write model.xml and model.bin. Raises ExportError."""
    converted = _convert(job)
    notes = []
    if job.precision == "int8":
        job.progress("calibrating for int8")
        converted, questions = _quantise(converted, job)
        notes.append(f"int8 by NNCF: activations' ranges are those of {questions} calibration questions")
    job.out.mkdir(parents=True, exist_ok=True)
    files = [job.out / MODEL_FILE, job.out / WEIGHTS_FILE]
    for path in files:
        path.unlink(missing_ok=True)
    try:
        ov.save_model(converted, str(files[0]), compress_to_fp16=job.precision == "fp16")
    except RuntimeError as error:  # for a full disk OpenVINO only says "iostream error"
        raise WriteError(
            f"{job.out}: cannot be written (OpenVINO: {_last_line(error)}); free some space, and run the same command"
        ) from error
    return WrittenFiles(files, notes)


def write_module(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    out: Path,
    *,
    calibration: Sequence[Mapping[str, np.ndarray]] = (),
) -> list[Path]:
    """Write any module as model.xml and model.bin in `out`, for inputs of exactly these names and shapes.

    With inputs for `calibration` the weights and activations have 8 bits, else fp32. Raises ExportError.
    """
    example = tuple(inputs.values())
    try:
        with quiet(), torch.no_grad():
            graph = torch.jit.trace(module, example, check_trace=False)
        converted = ov.convert_model(graph, example_input=example, input=[list(tensor.shape) for tensor in example])
    except (RuntimeError, ov.frontend.OpConversionFailure) as error:
        raise ExportError(
            f"{out}: OpenVINO {ov.get_version()} could not convert the network ({_last_line(error)}); "
            "report this message as a bug of lxcompress"
        ) from error
    for port, name in zip(converted.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
    converted.outputs[0].get_tensor().set_names({SCORES})
    if calibration:
        converted = _to_8_bits(converted, calibration)
    files = [out / MODEL_FILE, out / WEIGHTS_FILE]
    ov.save_model(converted, str(files[0]), compress_to_fp16=False)
    return files


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of the files.

    Embeddings are not read by products. The output layer is the last product, and is left out.
    """
    counts = _count_matrices(ov.Core().read_model(str(out / MODEL_FILE)))[:-1]
    return sum(zeros for zeros, _ in counts), sum(elements for _, elements in counts)


def _convert(job: Job) -> ov.Model:
    """Return the model in fp32, with names for its inputs and scores.

    Batch, tokens and regions may have any size. Raises ExportError.
    """
    try:
        graph = trace(job.model, job.example)
        with quiet("transformers"):
            converted = ov.convert_model(graph, example_input=tuple(job.example))
    except (RuntimeError, ov.frontend.OpConversionFailure) as error:
        raise ExportError(
            f"{job.out}: OpenVINO {ov.get_version()} could not convert the model ({_last_line(error)}); "
            "report this message as a bug of lxcompress"
        ) from error
    named = zip(converted.inputs, INPUT_NAMES, _shapes(job.model), strict=True)
    sizes = {}
    for port, name, shape in named:
        port.get_tensor().set_names({name})
        sizes[port] = ov.PartialShape(shape)
    converted.reshape(sizes)
    converted.outputs[0].get_tensor().set_names({SCORES})
    return converted


def _shapes(model: Model) -> tuple[list[int], ...]:
    """Return the shape of each input, in the order of Inputs; a picture that is read whole is one region."""
    regions = ANY if model.family.picture_size(model.config) is None else 1
    features = model.family.feature_size(model.config)
    words = [ANY, ANY]
    return words, words, [ANY, regions, features], [ANY, regions, 4], [ANY, regions]


def _quantise(converted: ov.Model, job: Job) -> tuple[ov.Model, int]:
    """Return the model with 8-bit weights and activations, and the number of questions it was calibrated on."""
    feeds = list(job.calibration())
    small = _to_8_bits(converted, feeds, transformer=True)
    rows = sum(len(feed["input_ids"]) for feed in feeds)
    return small, rows // job.model.family.count_images(job.model.config)


def _to_8_bits(
    converted: ov.Model, feeds: Sequence[Mapping[str, np.ndarray]], *, transformer: bool = False
) -> ov.Model:
    """Return the model with 8-bit weights and activations, whose ranges are measured on `feeds`."""
    import nncf

    kind = nncf.ModelType.TRANSFORMER if transformer else None
    inputs = nncf.Dataset([dict(feed) for feed in feeds])
    with redirect_stdout(io.StringIO()), quiet("nncf"):  # NNCF prints progress bars to standard output
        return nncf.quantize(converted, inputs, model_type=kind, subset_size=len(feeds))


def _count_matrices(model: ov.Model) -> list[tuple[int, int]]:
    """Return [(zeros, elements)] of the stored matrices that products read, in the order of their first use."""
    counts: dict[str, tuple[int, int]] = {}
    for product in model.get_ordered_ops():
        if product.get_type_name() == "MatMul":
            for port in product.inputs():
                node, zero = _find_stored(port.get_source_output().get_node())
                if node is not None and len(node.shape) == 2 and node.get_friendly_name() not in counts:
                    values = node.data
                    counts[node.get_friendly_name()] = int(np.count_nonzero(values == zero)), values.size
    return list(counts.values())


def _find_stored(node: ov.Node) -> tuple[ov.Node | None, np.ndarray | int]:
    """Return the constant that the input `node` of a product is computed from, and the constant's zero point.

    The constant is None if the input is computed from other values. A zero point is the stored value that stands for 0.
    """
    zero: np.ndarray | int = 0
    while node.get_type_name() in _STEPS:
        if node.get_type_name() == "Subtract":
            point, _ = _find_stored(node.input_value(1).get_node())
            zero = 0 if point is None else point.data
        node = node.input_value(0).get_node()
    return (node, zero) if node.get_type_name() == "Constant" else (None, 0)


def _last_line(error: Exception) -> str:
    """Return the last line of an error's message, which has OpenVINO's reason; without a message, the error's type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
