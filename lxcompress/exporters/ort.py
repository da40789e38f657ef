"""ORT: ONNX Runtime's own format for phones, a flatbuffer. A build of ONNX Runtime without ONNX's parser can load it.

A second file lists the operations that the model needs: with it, a small ONNX Runtime can be built (docs/onnx.md). A
note of the artifact says which accelerators of a phone could help, according to ONNX Runtime's own check.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from lxcompress.errors import ExportError
from lxcompress.exporters import onnx
from lxcompress.exporters.formats import Job, WrittenFiles
from lxcompress.exporters.four_bits import PACKED, unpack
from lxcompress.exporters.products import GraphNode, count_in
from lxcompress.rundir import write_text, write_whole
from lxcompress.runtimes.onnxruntime import MOBILE_FILE, quiet_onnxruntime
from lxcompress.text import first_line, read_text

CONFIG_FILE = "model.required_operators_and_types.config"
_LEVEL = "ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL"
"""The environment variable that sets the converter's optimization level; no argument sets it."""
HALF_NOTE = (
    "fp16 halves the file, but a processor without fp16 arithmetic converts all weights to fp32 for every answer, "
    "which "
    "is slower than an fp32 file (by two thirds on the mini model); int8 is smaller and faster"
)
CPU_NOTE = (
    "mobile usability check of ONNX Runtime: neither NNAPI nor Core ML would help, because they support only some of "
    "its steps; run it on the phone's CPU"
)
ACCELERATOR_NOTE = (
    "mobile usability check of ONNX Runtime: {} may run it faster than the phone's CPU, once its shapes are fixed "
    "(python -m onnxruntime.tools.make_dynamic_shape_fixed); measure both"
)


def write(job: Job) -> WrittenFiles:
    """Write model.ort, and the file that lists the operations it requires. Raises ExportError."""
    job.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.out, prefix=".") as folder:
        stage = Path(folder)
        notes = list(onnx.write(replace(job, out=stage)).notes)
        job.progress("checking whether a phone can run it")
        notes.append(check_mobile(stage / onnx.MODEL_FILE))
        job.progress("converting it to ONNX Runtime's format")
        files = convert(stage / onnx.MODEL_FILE, job.out, keep_half=job.precision == "fp16")
    if job.precision == "fp16":
        notes.append(HALF_NOTE)
    return WrittenFiles(files, notes)


def convert(path: Path, out: Path, *, keep_half: bool) -> list[Path]:
    """Convert the ONNX file at `path` to model.ort in the folder `out`; return the two written files.

    The second file lists the operations that model.ort requires. `keep_half` switches the converter's optimization off.
    On a processor without half arithmetic, the optimization would convert half-precision weights to fp32, and the file
    would not be smaller. Raises ExportError.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        with quiet_onnxruntime(), _optimized("disable" if keep_half else "all"):
            _convert(path, Path(folder))
        (made,), (config,) = Path(folder).glob("*.ort"), Path(folder).glob("*.config")
        operations = [line for line in read_text(config).splitlines() if not line.startswith("#")]
        write_text(out / CONFIG_FILE, "\n".join([f"# what {MOBILE_FILE} requires", *operations]) + "\n")
        write_whole(out / MOBILE_FILE, lambda part: os.replace(made, part))
    return [out / MOBILE_FILE, out / CONFIG_FILE]


def _convert(path: Path, out: Path) -> None:
    """Run ONNX Runtime's own converter. Raises ExportError."""
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

    try:
        # Fixed: optimize when converting, not when loading. arm: use no layouts that only x86 processors have.
        convert_onnx_models_to_ort(
            path, out, [OptimizationStyle.Fixed], target_platform="arm", enable_type_reduction=True
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        first = first_line(error)
        raise ExportError(
            f"ONNX Runtime could not convert the model to its .ort format ({first}); use --onnx"
        ) from error


def check_mobile(path: Path) -> str:
    """Run ONNX Runtime's mobile usability check on the ONNX file at `path`; return its result as a note for users."""
    with quiet_onnxruntime():
        from onnxruntime.tools.mobile_helpers import usability_checker

        messages = _MessageList()
        logger = logging.Logger("mobile", logging.INFO)  # a separate logger, so that no other handler gets the messages
        logger.addHandler(messages)
        usability_checker.analyze_model(path, skip_optimize=False, logger=logger)
    helpful = sorted({name for name in ("NNAPI", "CoreML") for line in messages.lines if _recommends(line, name)})
    return ACCELERATOR_NOTE.format(" and ".join(helpful)) if helpful else CPU_NOTE


def count_zeros(out: Path) -> tuple[int, int]:
    """Return the number of zeros, and of all elements, in the prunable matrices of model.ort."""
    graph = _read_graph(out / MOBILE_FILE)
    stored = {tensor.Name().decode(): tensor for tensor in _members(graph.Initializers, graph.InitializersLength())}
    steps = [
        GraphNode(
            node.Name().decode(),
            node.OpType().decode(),
            [name.decode() for name in _members(node.Inputs, node.InputsLength())],
            [name.decode() for name in _members(node.Outputs, node.OutputsLength())],
        )
        for node in _members(graph.Nodes, graph.NodesLength())
    ]
    shapes = {name: tensor.DimsAsNumpy().tolist() if tensor.DimsLength() else [] for name, tensor in stored.items()}
    packed = _packed_shapes(graph)

    def read(name: str) -> np.ndarray:
        values = _values(stored[name], shapes[name])
        return unpack(values)[:, : packed[name][1]] if name in packed else values

    return count_in(steps, shapes | packed, onnx.OUTPUT, read)


class _MessageList(logging.Handler):
    """A logging handler that keeps all messages in `lines`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _recommends(line: str, accelerator: str) -> bool:
    """Return whether a line of the usability check recommends the accelerator (the line ends with YES or MAYBE)."""
    return line.startswith(f"Model should perform well with {accelerator}") and line.endswith(("YES", "MAYBE"))


@contextmanager
def _optimized(level: str) -> Iterator[None]:
    """Set the converter's optimization level inside the `with` block."""
    before = os.environ.get(_LEVEL)
    os.environ[_LEVEL] = level
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LEVEL]
        else:
            os.environ[_LEVEL] = before


def _read_graph(path: Path) -> Any:
    """Return the graph in model.ort, read with the schema of ONNX Runtime's tools. Raises ExportError."""
    with quiet_onnxruntime():
        from onnxruntime.tools.ort_format_model.ort_model_processor import fbs
    session = fbs.InferenceSession.InferenceSession
    content = path.read_bytes()
    if not session.InferenceSessionBufferHasIdentifier(content, 0):
        raise ExportError(f"{path}: is not a file in ONNX Runtime's format; export it again")
    return session.GetRootAsInferenceSession(content, 0).Model().Graph()


def _packed_shapes(graph: Any) -> dict[str, tuple[int, int]]:
    """Return {name of a matrix of 4-bit codes: its shape (N, K)}, as four_bits.packed_shapes does for ONNX."""
    found = {}
    for node in _members(graph.Nodes, graph.NodesLength()):
        if node.OpType().decode() == PACKED:
            values = _members(node.Attributes, node.AttributesLength())
            sizes = {attribute.Name().decode(): attribute.I() for attribute in values}
            found[node.Inputs(1).decode()] = (sizes["N"], sizes["K"])
    return found


def _members(get: Callable[[int], Any], count: int) -> list[Any]:
    """Return the members of a flatbuffer's vector."""
    return [get(index) for index in range(count)]


def _values(tensor: Any, shape: Sequence[int]) -> np.ndarray:
    """Return a stored tensor's values, without a copy."""
    return tensor.RawDataAsNumpy().view(helper.tensor_dtype_to_np_dtype(tensor.DataType())).reshape(shape)
