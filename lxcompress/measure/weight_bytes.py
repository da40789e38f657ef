"""Count the bytes of weights that the processor reads for one answer, which limit its speed.

The weights are counted as the runtime holds them in memory, each once, however often an answer uses it. An embedding
table counts one row per token. A runtime that expands a sparse file while loading is counted dense, because it reads
the zeros too. Only the engine computes on sparse weights, and is counted by its sparse data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from lxcompress.engine.reader import read_weights
from lxcompress.engine.records import TABLE
from lxcompress.filenames import CONFIG_FILE
from lxcompress.records import Artifact
from lxcompress.text import parse_json, read_text

_FLOAT = 4
_BFLOAT16 = "openvino-bf16"
"""The runtime that converts the 32-bit weights of its file to 16 bits."""
# The operations between a table stored in fewer bits and the Gather that reads its rows.
_DECODING = ("Cast", "DequantizeLinear", "Convert", "Subtract", "Multiply", "Identity")
_TABLES_OF = {"Gather": (0,), "GatherBlockQuantized": (0, 2), "EmbedLayerNormalization": (2, 3, 4)}
_OPENVINO_BITS = {
    "boolean": 8,
    "f32": 32,
    "f16": 16,
    "bf16": 16,
    "i64": 64,
    "i32": 32,
    "i8": 8,
    "u8": 8,
    "u4": 4,
    "i4": 4,
}


@dataclass(frozen=True)
class Weight:
    """A stored tensor; `rows` is the number of rows of an embedding table, and 0 for a tensor that is read whole."""

    size_bytes: float
    rows: int = 0


def bytes_per_answer(weights: Iterable[Weight] | None, tokens: int) -> int | None:
    """Return the bytes of `weights` that an answer to `tokens` tokens reads; None if the weights are not known."""
    if weights is None:
        return None
    return round(sum(weight.size_bytes * (min(1.0, tokens / weight.rows) if weight.rows else 1) for weight in weights))


def held_weights(path: Path, artifact: Artifact, runtime: str) -> tuple[Weight, ...] | None:
    """Return the weights of the artifact in the folder `path` as `runtime` holds them; None if they cannot be read.

    The runtime itself will report what is wrong with a damaged file.
    """
    try:
        if artifact.format in ("onnx", "onnx-sparse"):
            return onnx_weights(path / "model.onnx", runtime)
        if artifact.format == "openvino":
            (file,) = (path / name for name in artifact.files if name.endswith(".xml"))
            return openvino_weights(file, runtime)
        if artifact.format == "engine":
            (file,) = (path / name for name in artifact.files if name.endswith(".lxe"))
            return engine_weights(file)
        if runtime.startswith("torch") and artifact.parameters and CONFIG_FILE in artifact.files:
            return torch_weights(path / CONFIG_FILE, artifact.parameters)
    except Exception:  # the errors of protobuf, XML and JSON share no other base class
        return None
    return None


def onnx_weights(file: Path, runtime: str) -> tuple[Weight, ...]:
    """Return the weights of an ONNX file; the runtime expands sparse ones."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    tables = _find_tables(
        [(node.op_type, list(node.input), list(node.output)) for node in graph.node], decoding=_DECODING
    )
    stored = [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in graph.initializer]
    stored += [(tensor.values.name, tensor.values.data_type, list(tensor.dims)) for tensor in graph.sparse_initializer]
    return tuple(
        Weight(
            math.prod(dims) * _held_bytes(onnx.helper.tensor_dtype_to_np_dtype(kind), runtime),
            rows=dims[0] if name in tables and dims else 0,
        )
        for name, kind, dims in stored
    )


def _held_bytes(kind: np.dtype, runtime: str) -> int:
    return 2 if kind == np.float32 and runtime == _BFLOAT16 else kind.itemsize


def openvino_weights(file: Path, runtime: str) -> tuple[Weight, ...]:
    """Return the weights of an OpenVINO model; the bfloat16 runtime holds 32-bit weights in 16 bits."""
    root = ElementTree.parse(file).getroot()  # a trusted file: its SHA-256 was checked
    layers = {layer.attrib["id"]: layer for layer in root.iterfind("layers/layer")}
    inputs: dict[str, dict[int, str]] = {layer: {} for layer in layers}
    for edge in root.iterfind("edges/edge"):
        inputs[edge.attrib["to-layer"]][int(edge.attrib["to-port"])] = edge.attrib["from-layer"]
    nodes = [
        (layer.attrib["type"], [source for _, source in sorted(inputs[name].items())], [name])
        for name, layer in layers.items()
    ]
    tables = _find_tables(nodes, decoding=_DECODING)
    weights = []
    for name, layer in layers.items():
        if layer.attrib["type"] == "Const":
            data = layer.find("data")
            assert data is not None, "a constant has its data"
            dims = [int(size) for size in data.attrib["shape"].split(",") if size.strip()]
            kind = data.attrib["element_type"]
            bits = 16 if kind == "f32" and runtime == _BFLOAT16 else _OPENVINO_BITS.get(kind, 32)
            weights.append(Weight(math.prod(dims) * bits / 8, rows=dims[0] if name in tables and dims else 0))
    return tuple(weights)


def engine_weights(file: Path) -> tuple[Weight, ...]:
    """Return the weights of an engine file; sparse ones include their indices."""
    found = []
    for weight in read_weights(file):
        parts = (weight.values, weight.indices, weight.groups, weight.starts, weight.scales, weight.sums)
        size_bytes = sum(part.nbytes for part in parts if part is not None)
        found.append(Weight(size_bytes, rows=weight.rows if weight.layout == TABLE else 0))
    return tuple(found)


def torch_weights(config_file: Path, parameters: int) -> tuple[Weight, ...]:
    """Return the weights of a model in torch, all in 32 bits, by its configuration."""
    config: Mapping[str, int] = parse_json(read_text(config_file))
    width = config["hidden_size"]
    rows = [config[name] for name in ("vocab_size", "max_position_embeddings", "type_vocab_size") if name in config]
    tables = [Weight(_FLOAT * count * width, rows=count) for count in rows]
    return (Weight(_FLOAT * (parameters - width * sum(rows))), *tables)


def _find_tables(nodes: Iterable[tuple[str, list[str], list[str]]], *, decoding: Iterable[str]) -> set[str]:
    """Return the names of embedding tables and of the stored tensors behind them; nodes are (kind, inputs, outputs)."""
    made_by = {output: (kind, inputs) for kind, inputs, outputs in nodes for output in outputs}
    found = [inputs[index] for kind, inputs, _ in nodes for index in _TABLES_OF.get(kind, ()) if index < len(inputs)]
    tables: set[str] = set()
    while found:
        name = found.pop()
        if name in tables or not name:
            continue
        tables.add(name)
        kind, inputs = made_by.get(name, ("", []))
        if kind in decoding:
            found += inputs
    return tables
