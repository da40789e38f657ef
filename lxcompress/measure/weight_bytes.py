"""How many bytes of weights one answer makes the processor read: what a file's size means for its speed.

Counted are the weights as the runtime holds them, each once, however often the answer uses it. A table of embeddings
counts one row per token. A sparse file that its runtime makes dense while loading is counted dense, because that is
what is read; only the engine computes on what its file leaves zeros out of, and is counted by what that holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from lxcompress.engine.program import read_weights
from lxcompress.engine.records import TABLE
from lxcompress.filenames import CONFIG_FILE
from lxcompress.records import Artifact
from lxcompress.text import parse_json, read_text

_FLOAT = 4
_BFLOAT16 = "openvino-bf16"
"""The runtime that holds in 16 bits what its file has in 32."""
# What stands between a stored table and the Gather that takes its rows, where the table is kept in fewer bits.
_UNPACKING = ("Cast", "DequantizeLinear", "Convert", "Subtract", "Multiply", "Identity")
_TABLES_OF = {"Gather": (0,), "GatherBlockQuantized": (0,), "EmbedLayerNormalization": (2, 3, 4)}
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
    """A stored tensor: its elements and its bytes; `rows` of it are taken one at a time, 0 if it is read whole."""

    size_bytes: float
    rows: int = 0


def bytes_per_answer(weights: Iterable[Weight] | None, tokens: int) -> int | None:
    """Bytes of `weights` that one answer of `tokens` tokens reads; None where they are not known."""
    if weights is None:
        return None
    return round(sum(each.size_bytes * (min(1.0, tokens / each.rows) if each.rows else 1) for each in weights))


def held_weights(path: Path, artifact: Artifact, runtime: str) -> tuple[Weight, ...] | None:
    """The weights of the artifact in the folder `path` as `runtime` holds them; None where its files do not show them.

    A file that cannot be read shows none: its runtime will say what is wrong with it.
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
    except Exception:  # protobuf's, XML's and JSON's errors share no base class
        return None
    return None


def onnx_weights(file: Path, runtime: str) -> tuple[Weight, ...]:
    """The weights of an ONNX file, sparse ones as the runtime makes them: dense."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    tables = _find_tables(
        [(node.op_type, list(node.input), list(node.output)) for node in graph.node], unpacking=_UNPACKING
    )
    stored = [(each.name, each.data_type, list(each.dims)) for each in graph.initializer]
    stored += [(each.values.name, each.values.data_type, list(each.dims)) for each in graph.sparse_initializer]
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
    """The weights of an OpenVINO model; computing in bfloat16, it holds those of 32 bits in 16."""
    root = ElementTree.parse(file).getroot()  # the file has been checked against its SHA-256: it is our own
    layers = {layer.attrib["id"]: layer for layer in root.iterfind("layers/layer")}
    inputs: dict[str, dict[int, str]] = {layer: {} for layer in layers}
    for edge in root.iterfind("edges/edge"):
        inputs[edge.attrib["to-layer"]][int(edge.attrib["to-port"])] = edge.attrib["from-layer"]
    nodes = [
        (layer.attrib["type"], [source for _, source in sorted(inputs[name].items())], [name])
        for name, layer in layers.items()
    ]
    tables = _find_tables(nodes, unpacking=_UNPACKING)
    weights = []
    for name, layer in layers.items():
        if layer.attrib["type"] == "Const":
            data = layer.find("data")
            assert data is not None, "a constant has its data"
            dims = [int(each) for each in data.attrib["shape"].split(",") if each.strip()]
            kind = data.attrib["element_type"]
            bits = 16 if kind == "f32" and runtime == _BFLOAT16 else _OPENVINO_BITS.get(kind, 32)
            weights.append(Weight(math.prod(dims) * bits / 8, rows=dims[0] if name in tables and dims else 0))
    return tuple(weights)


def engine_weights(file: Path) -> tuple[Weight, ...]:
    """The weights of an engine file, with their places where they are sparse."""
    found = []
    for each in read_weights(file):
        parts = (each.values, each.indices, each.groups, each.starts, each.scales, each.sums)
        size_bytes = sum(part.nbytes for part in parts if part is not None)
        found.append(Weight(size_bytes, rows=each.rows if each.layout == TABLE else 0))
    return tuple(found)


def torch_weights(config_file: Path, parameters: int) -> tuple[Weight, ...]:
    """The weights of a model that torch holds, all in 32 bits, by its configuration."""
    config: Mapping[str, int] = parse_json(read_text(config_file))
    width = config["hidden_size"]
    rows = [config[name] for name in ("vocab_size", "max_position_embeddings", "type_vocab_size") if name in config]
    tables = [Weight(_FLOAT * count * width, rows=count) for count in rows]
    return (Weight(_FLOAT * (parameters - width * sum(rows))), *tables)


def _find_tables(nodes: Iterable[tuple[str, list[str], list[str]]], *, unpacking: Iterable[str]) -> set[str]:
    """The tensors that rows are gathered from, and what those are unpacked from; nodes are (kind, inputs, outputs)."""
    made_by = {output: (kind, inputs) for kind, inputs, outputs in nodes for output in outputs}
    found = [inputs[place] for kind, inputs, _ in nodes for place in _TABLES_OF.get(kind, ()) if place < len(inputs)]
    tables: set[str] = set()
    while found:
        name = found.pop()
        if name in tables or not name:
            continue
        tables.add(name)
        kind, inputs = made_by.get(name, ("", []))
        if kind in unpacking:
            found += inputs
    return tables
