"""ORT: ONNX Runtime's own format for phones, a flatbuffer that a build without ONNX's parser loads.

It comes with the list of operations that the file takes, from which ONNX Runtime is built small (docs/onnx.md), and
with the verdict of ONNX Runtime's own check of what a phone's accelerators could do with it.
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
from lxcompress.exporters.products import GraphNode, count_in
from lxcompress.rundir import write_text, write_whole
from lxcompress.runtimes.onnxruntime import MOBILE_FILE, quiet_onnxruntime
from lxcompress.text import first_line, read_text

CONFIG_FILE = "model.required_operators_and_types.config"
_LEVEL = "ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL"
"""How far the converter optimizes: it takes this from the environment alone."""
HALF_NOTE = (
    "fp16 halves the file alone: a processor without half arithmetic casts every weight back for every answer, which "
    "takes longer than fp32 (by two thirds on the mini model); int8 is smaller and faster"
)
CPU_NOTE = (
    "mobile usability check of ONNX Runtime: neither NNAPI nor Core ML would help, as the steps that they know are too "
    "scattered; run it on the phone's CPU"
)
ACCELERATOR_NOTE = (
    "mobile usability check of ONNX Runtime: {} may run it faster than the phone's CPU, once its shapes are fixed "
    "(python -m onnxruntime.tools.make_dynamic_shape_fixed); measure both"
)


def write(job: Job) -> WrittenFiles:
    """Writes model.ort and the operations that it requires. Raises ExportError."""
    job.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.out, prefix=".") as folder:
        stage = Path(folder)
        notes = list(onnx.write(replace(job, out=stage)).notes)
        job.progress("checking what a phone makes of it")
        notes.append(check_mobile(stage / onnx.MODEL_FILE))
        job.progress("converting it to ONNX Runtime's format")
        files = convert(stage / onnx.MODEL_FILE, job.out, keep_half=job.precision == "fp16")
    if job.precision == "fp16":
        notes.append(HALF_NOTE)
    return WrittenFiles(files, notes)


def convert(path: Path, out: Path, *, keep_half: bool) -> list[Path]:
    """Converts the ONNX file at `path` to model.ort in the folder `out`, with the operations that it requires.

    `keep_half` leaves half-precision weights alone: optimized on a processor without half arithmetic, they would be
    stored as fp32, as large as before. Raises ExportError.
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
    """Runs ONNX Runtime's own converter. Raises ExportError."""
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

    try:
        # Fixed: what the CPU can gain is in the file; arm: but for layouts that x86 processors alone know.
        convert_onnx_models_to_ort(
            path, out, [OptimizationStyle.Fixed], target_platform="arm", enable_type_reduction=True
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        first = first_line(error)
        raise ExportError(f"ONNX Runtime could not convert the model to its format ({first}); use --onnx") from error


def check_mobile(path: Path) -> str:
    """What ONNX Runtime's mobile usability check says of the ONNX file at `path`, in words."""
    with quiet_onnxruntime():
        from onnxruntime.tools.mobile_helpers import usability_checker

        heard = _Heard()
        logger = logging.Logger("mobile", logging.INFO)  # of its own, so that nobody else hears it
        logger.addHandler(heard)
        usability_checker.analyze_model(path, skip_optimize=False, logger=logger)
    helpful = sorted({name for name in ("NNAPI", "CoreML") for line in heard.lines if _recommends(line, name)})
    return ACCELERATOR_NOTE.format(" and ".join(helpful)) if helpful else CPU_NOTE


def count_zeros(out: Path) -> tuple[int, int]:
    """Zeros, and elements, of the matrices in model.ort itself, embeddings and output layer apart."""
    graph = _read_graph(out / MOBILE_FILE)
    stored = {each.Name().decode(): each for each in _each(graph.Initializers, graph.InitializersLength())}
    steps = [
        GraphNode(
            node.Name().decode(),
            node.OpType().decode(),
            [name.decode() for name in _each(node.Inputs, node.InputsLength())],
            [name.decode() for name in _each(node.Outputs, node.OutputsLength())],
        )
        for node in _each(graph.Nodes, graph.NodesLength())
    ]
    shapes = {name: each.DimsAsNumpy().tolist() if each.DimsLength() else [] for name, each in stored.items()}
    return count_in(steps, shapes, onnx.OUTPUT, lambda name: _values(stored[name], shapes[name]))


class _Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _recommends(line: str, accelerator: str) -> bool:
    """Whether a line of the check is a verdict for the accelerator: YES or MAYBE."""
    return line.startswith(f"Model should perform well with {accelerator}") and line.endswith(("YES", "MAYBE"))


@contextmanager
def _optimized(level: str) -> Iterator[None]:
    """The converter's level of optimization, for as long as it works."""
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
    """The graph in the flatbuffer, through the schema that ONNX Runtime's tools bring."""
    with quiet_onnxruntime():
        from onnxruntime.tools.ort_format_model.ort_model_processor import fbs
    session = fbs.InferenceSession.InferenceSession
    content = path.read_bytes()
    if not session.InferenceSessionBufferHasIdentifier(content, 0):
        raise ExportError(f"{path}: is no file of ONNX Runtime's format; export it again")
    return session.GetRootAsInferenceSession(content, 0).Model().Graph()


def _each(get: Callable[[int], Any], count: int) -> list[Any]:
    """The members of a flatbuffer's vector."""
    return [get(place) for place in range(count)]


def _values(tensor: Any, shape: Sequence[int]) -> np.ndarray:
    """A stored tensor's values, without a copy."""
    return tensor.RawDataAsNumpy().view(helper.tensor_dtype_to_np_dtype(tensor.DataType())).reshape(shape)
