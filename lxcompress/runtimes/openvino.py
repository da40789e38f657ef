"""The runtime of OpenVINO IR, and of ONNX files without operators of ONNX Runtime: OpenVINO on the CPU."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lxcompress.errors import MeasureError
from lxcompress.output import command_line
from lxcompress.runtimes.feeds import check_feeds, check_scores

# When OpenVINO is imported, it reports to Google Analytics and writes an id to the home folder. It does neither if its
# telemetry package cannot be imported, so this line makes that import fail.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

try:
    import openvino
except ImportError as problem:
    raise MeasureError(
        f"runtime openvino: its library cannot be imported ({problem}); install it with: pip install "
        "'lxcompress[openvino]'"
    ) from None

MODEL_FILE = "model.xml"
ONNX_FILE = "model.onnx"
SCORES = "scores"
DEVICE = "CPU"
_PLAIN_DOMAINS = {"", "ai.onnx"}

# The numbers of the fields in ONNX's protobuf messages that lead to the domain of an operator: model -> graph -> node.
_GRAPH_OF_MODEL, _NODE_OF_GRAPH, _DOMAIN_OF_NODE = 7, 1, 7


@dataclass(frozen=True)
class OpenvinoSession:
    """A loaded file that is compiled for the CPU."""

    path: Path
    compiled: openvino.CompiledModel
    inputs: tuple[str, ...]

    def answer(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the scores, float32 [B, A], of the questions in `feeds`.

        Raises MeasureError if the file has other inputs, and for NaN or infinity in inputs or scores.
        """
        check_feeds(self.path, feeds, self.inputs)
        try:
            scores = self.compiled(dict(feeds))[SCORES]
        except Exception as problem:  # OpenVINO raises RuntimeError, its bindings raise others
            raise MeasureError(
                f"{self.path}: OpenVINO {openvino.get_version()} failed while answering ({_reason(problem)}); "
                "export it again with this version of lxcompress"
            ) from problem
        return check_scores(self.path, np.asarray(scores, dtype=np.float32))


def open_openvino(path: Path, *, threads: int) -> OpenvinoSession:
    """Load the file at `path`, or in the folder `path`, to compute in float32 on `threads` threads.

    Raises MeasureError.
    """
    return _open(path, threads=threads, precision="f32")


def open_bfloat16(path: Path, *, threads: int) -> OpenvinoSession:
    """Load the file at `path`, or in the folder `path`, to compute in bfloat16 on `threads` threads.

    Raises MeasureError, also on a processor without bfloat16 products.
    """
    if "BF16" not in openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        raise MeasureError(
            "runtime openvino-bf16: this processor has no products of bfloat16; measure with the runtime openvino"
        )
    return _open(path, threads=threads, precision="bf16")


def _open(path: Path, *, threads: int, precision: str) -> OpenvinoSession:
    """Load and compile the model file at `path`, or in the folder `path`. Raises MeasureError."""
    model = _find(path)
    try:
        compiled = openvino.Core().compile_model(str(model), DEVICE, _options(threads, precision))
    except Exception as problem:  # OpenVINO raises RuntimeError, its bindings raise others
        raise MeasureError(
            f"{model}: OpenVINO {openvino.get_version()} cannot load it ({_reason(problem)}); export it again"
        ) from problem
    names = [name for output in compiled.outputs for name in output.get_names()]
    if SCORES not in names:
        raise MeasureError(f"{model}: expected an output named {SCORES}, got {', '.join(names)}; export it again")
    return OpenvinoSession(model, compiled, tuple(port.get_any_name() for port in compiled.inputs))


def _options(threads: int, precision: str) -> dict[str, object]:
    """Return OpenVINO's settings for short latency on `threads` threads."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_HYPER_THREADING": True,  # without it, there is at most one thread for each physical core
        "ENABLE_CPU_PINNING": False,  # the bench pins the process to cores, and its threads use the same cores
    }


def _find(path: Path) -> Path:
    """Return `path` if it is a file, or the model file in the folder `path`.

    Raises MeasureError if there is no model file, or if OpenVINO cannot read it.
    """
    model = path
    if path.is_dir():
        model = next((path / name for name in (MODEL_FILE, ONNX_FILE) if (path / name).is_file()), path / MODEL_FILE)
    if not model.is_file():
        raise MeasureError(
            f"{model}: no such file; make it with: "
            f"{command_line('export', 'TICKET', '--format', 'openvino', '--out', path)}"
        )
    if model.suffix == ".onnx":
        _check_plain(model)
    return model


def _check_plain(model: Path) -> None:
    """Raise MeasureError if an ONNX file has operators that are not ONNX's own; OpenVINO knows only some of them."""
    try:
        own = sorted(set(_domains(model)) - _PLAIN_DOMAINS)
    except (IndexError, ValueError):
        raise MeasureError(f"{model}: is not an ONNX file, or is cut short; export it again") from None
    if own:
        raise MeasureError(
            f"{model}: has operators of {', '.join(own)}, of which OpenVINO supports only some; export it with "
            "--no-fuse, or with --format openvino"
        )


def _domains(model: Path) -> Iterator[str]:
    """Yield the domain of each operator of an ONNX file, without reading the weights between them."""
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for graph in _fields(data, 0, len(data), _GRAPH_OF_MODEL):
            for node in _fields(data, *graph, _NODE_OF_GRAPH):
                for start, end in _fields(data, *node, _DOMAIN_OF_NODE):
                    yield data[start:end].decode("utf-8")


def _fields(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) in `data` of each value of one field of a protobuf message.

    The message is at `start` to `end`. `wanted` is the number of the field, whose values are texts or messages. Raises
    ValueError or IndexError if there is no protobuf message.
    """
    index = start
    while index < end:
        key, index = _varint(data, index)
        kind = key & 7
        if kind == 0:
            _, after = _varint(data, index)
        elif kind in (1, 5):
            after = index + (8 if kind == 1 else 4)
        elif kind == 2:
            size, index = _varint(data, index)
            after = index + size
        else:
            raise ValueError(f"no wire type {kind}")
        if after > end:
            raise ValueError("a field ends beyond its message")
        if kind == 2 and key >> 3 == wanted:
            yield index, after
        index = after


def _varint(data: mmap.mmap, index: int) -> tuple[int, int]:
    """Return the protobuf varint at `index` (a number with seven bits in each byte), and the index after it."""
    value = shift = 0
    while True:
        byte = data[index]
        index += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, index


def _reason(problem: Exception) -> str:
    """Return the first line of OpenVINO's message that does not name its own source files."""
    lines = [line.strip() for line in str(problem).splitlines()]
    kept_lines = [line for line in lines if line and not line.startswith("Exception from ")]
    return kept_lines[0] if kept_lines else type(problem).__name__
