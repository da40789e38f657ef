"""LiteRT: model.tflite, a file for phones and small computers that multiplies matrices with XNNPACK.

The memory of a file is planned for one question of one shape, and shorter questions are padded. The converter is
litert-torch, which needs no TensorFlow. int8 is dynamic: ai-edge-quantizer rewrites the fp32 file, so that weights and
embeddings have 8 bits and a scale for each row, and activations are quantised at run time; nothing is calibrated.
"""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lxcompress.errors import ExportError
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.traced import Answer, fixed_question
from lxcompress.quiet import hide_native_stderr, quiet
from lxcompress.rundir import write_whole
from lxcompress.runtimes.litert import MODEL_FILE
from lxcompress.text import first_line
from lxcompress.writing import WriteError

OUTPUT = "scores"
_SETTINGS = {"LITERT_TORCH_SHOW_PROGRESS": "n", "RESOURCE_CONSTANT_NUMEL_THRESHOLD": "32"}
"""Environment variables that litert-torch reads: whether it prints every step, and the fewest elements of a tensor that
lightweight conversion leaves as it is."""
_TALKATIVE = ("absl", "jax", "torch", "torchao", "transformers", "root")


class Scores(nn.Module):
    """A model as the converter calls it: the output of the file has the name of the key."""

    def __init__(self, answer: nn.Module) -> None:
        super().__init__()
        self.answer = answer
        self.eval()

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return {OUTPUT: self.answer(**inputs)}


def write(job: Job) -> WrittenFiles:
    """Write model.tflite. Raises ExportError."""
    job.out.mkdir(parents=True, exist_ok=True)
    path = job.out / MODEL_FILE
    with _explained(job.out):
        write_whole(path, lambda part: _write(job, part))
    return WrittenFiles([path])


def write_module(module: nn.Module, inputs: Mapping[str, Tensor], out: Path, *, precision: str) -> Path:
    """Write any module as model.tflite in `out`, for inputs of exactly these names and shapes. Raises ExportError."""
    path = out / MODEL_FILE
    with _explained(out):
        convert(Scores(module), dict(inputs), path)
        if precision == "int8":
            write_whole(path, lambda part: quantise(path, part))
    return path


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of the file.

    Embeddings are not counted, because they are looked up rather than multiplied. The output layer is the last product,
    and is left out.
    """
    with (out / MODEL_FILE).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        counts = [(values.size - int(np.count_nonzero(values)), values.size) for values in _matrices(data)]
    return sum(zeros for zeros, _ in counts[:-1]), sum(elements for _, elements in counts[:-1])


def convert(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> None:
    """Write a module as a LiteRT file that takes inputs of these names and shapes; integers become 32-bit integers.

    Every error of the library is passed on.
    """
    with quiet(*_TALKATIVE), hide_native_stderr(), _variables(_SETTINGS):
        import litert_torch

        # Otherwise the converter multiplies the gain of a layer norm into the matrices that follow it, and stores a
        # matrix that is used after two layer norms twice.
        litert_torch.convert(module, sample_kwargs=inputs, lightweight_conversion=True).export(str(path))


def convert_tiny(folder: Path) -> dict[str, np.ndarray]:
    """Write a model of one product to `folder`, to test the converter; return an input for it.

    Every error of the library is passed on.
    """
    example = {"half": torch.full((1, 2), 0.5)}
    convert(Tiny(), example, folder / MODEL_FILE)
    return {name: tensor.numpy() for name, tensor in example.items()}


class Tiny(nn.Module):
    """A model of one product."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Linear(2, 1)
        self.eval()

    def forward(self, half: Tensor) -> dict[str, Tensor]:
        return {OUTPUT: self.product(half)}


def quantise(fp32: Path, path: Path) -> None:
    """Write the fp32 file with 8-bit weights; every error of the library is passed on."""
    with quiet(*_TALKATIVE), hide_native_stderr(), redirect_stdout(io.StringIO()):
        from ai_edge_quantizer import quantizer, recipe

        made = quantizer.Quantizer(str(fp32), recipe.dynamic_wi8_afp32()).quantize()
        path.write_bytes(made.quantized_model)


def _write(job: Job, path: Path) -> None:
    """Write the file of the job's precision to `path`; int8 is made from an fp32 file, which is kept if one exists."""
    known = None if job.fp32 is None else job.fp32 / MODEL_FILE
    if job.precision == "fp32":
        _convert_model(job, path)
    elif known is not None and known.is_file():
        quantise(known, path)
    else:
        with tempfile.TemporaryDirectory(dir=job.out) as folder:
            fp32 = Path(folder) / MODEL_FILE
            _convert_model(job, fp32)
            job.progress("quantising to int8")
            quantise(fp32, path)


def _convert_model(job: Job, path: Path) -> None:
    assert job.fixed is not None, "an export to a format of one shape chooses a shape"
    example = fixed_question(job.model, job.example, job.fixed)
    convert(Scores(Answer(job.model)), dict(example._asdict()), path)


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Raise an error of the converter inside the block as ExportError; `out` is the folder of the file."""
    try:
        yield
    except WriteError:
        raise
    except Exception as error:  # torch.export, litert-torch and ai-edge-quantizer raise errors of many types
        raise ExportError(
            f"{out}: litert-torch could not convert the model ({first_line(error)}); export the model to another "
            "format, and report this message as a bug of lxcompress"
        ) from error


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and afterwards give them their former values."""
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _matrices(data: mmap.mmap) -> Iterator[np.ndarray]:
    """Yield each stored matrix that the file multiplies with once, in the order of its first use."""
    from ai_edge_litert import schema_py_generated as schema

    types = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT8: np.int8}
    model: Any = schema.Model.GetRootAs(data, 0)
    graph, seen = model.Subgraphs(0), {0}  # buffer 0 is empty: tensors without stored values have it
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        kind = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        if kind == schema.BuiltinOperator.FULLY_CONNECTED:
            tensor = graph.Tensors(operator.Inputs(1))
            if tensor.Buffer() not in seen:
                seen.add(tensor.Buffer())
                yield _stored_bytes(model.Buffers(tensor.Buffer()), data).view(types[tensor.Type()])


def _stored_bytes(buffer: Any, data: mmap.mmap) -> np.ndarray:
    """Return the bytes of a buffer, which the quantiser of a large file moves behind the graph."""
    if buffer.DataLength():
        values: np.ndarray = buffer.DataAsNumpy()
        return values
    return np.frombuffer(data[buffer.Offset() : buffer.Offset() + buffer.Size()], dtype=np.uint8)
