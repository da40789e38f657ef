"""Laws of the Core ML format. Nothing here can run it, so what a phone would read is read byte by byte: the weights in
the package are the ticket's, its zeros left out, and no number in it is beyond what half precision holds.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lxcompress.data.tokens import shipped_vocabulary
from lxcompress.errors import ExportError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.coreml import count_zeros, within_half, write
from lxcompress.exporters.formats import ExportOptions, Job
from lxcompress.exporters.traced import quiet, trace
from lxcompress.models.checkpoints import Model, save_model
from lxcompress.models.family import find_family
from lxcompress.records import Artifact
from lxcompress.rundir import sha256
from lxcompress.shapes import FixedShape
from lxcompress.tickets import load_ticket
from tests.export.small import FEATURES, SPARSITY, save_ticket, score
from tests.models import families

pytestmark = pytest.mark.native

DATA = Path("Data/com.apple.CoreML")
SENTINEL = 0xDEADBEEF
NUMPY = {1: np.float16, 2: np.float32, 3: np.uint8, 4: np.int8}
"""The types of a blob, as MIL's storage format numbers them."""


def read_spec(package: Path) -> Any:
    """The protobuf message that the package's graph is."""
    with quiet("coremltools"):
        from coremltools.proto import Model_pb2

    return Model_pb2.Model.FromString((package / DATA / "model.mlmodel").read_bytes())


@dataclass(frozen=True)
class Package:
    """A package, read without coremltools' own readers: the protobuf of its graph, and the bytes of its weights."""

    path: Path

    @cached_property
    def operations(self) -> list[Any]:
        function = read_spec(self.path).mlProgram.functions["main"]
        return list(function.block_specializations[function.opset].operations)

    @cached_property
    def weights(self) -> bytes:
        return (self.path / DATA / "weights" / "weight.bin").read_bytes()

    @cached_property
    def by_output(self) -> Mapping[str, Any]:
        return {output.name: each for each in self.operations for output in each.outputs}

    def value(self, operation: Any, name: str) -> np.ndarray:
        """What an operation stores, or is given, under `name`: bytes of the blob it points to, in their own type."""
        held = operation.attributes[name] if name in operation.attributes else operation.inputs[name].arguments[0].value
        kind = held.type.tensorType
        shape = [each.constant.size for each in kind.dimensions]
        if held.WhichOneof("value") == "immediateValue":
            tensor = held.immediateValue.tensor
            if tensor.WhichOneof("value") == "bytes":
                kept = np.frombuffer(tensor.bytes.values, np.uint32 if name == "shape" else np.float16)
                return kept.reshape(shape)
            return np.array(getattr(tensor, tensor.WhichOneof("value")).values)
        sentinel, blob, size, start = struct.unpack_from("<IIQQ", self.weights, held.blobFileValue.offset)
        assert sentinel == SENTINEL
        found = self.weights[start : start + size]
        if blob not in NUMPY:  # bits
            return np.unpackbits(np.frombuffer(found, np.uint8), bitorder="little")[: int(np.prod(shape))].reshape(
                shape
            )
        return np.frombuffer(found, NUMPY[blob]).reshape(shape)

    def dense(self, name: str) -> np.ndarray:
        """The tensor that the output `name` stands for, put together as Core ML defines its operations."""
        operation = self.by_output[name]
        if operation.type == "const":
            return self.value(operation, "val")
        if operation.type == "constexpr_blockwise_shift_scale":
            return self.value(operation, "data").astype(np.float32) * self.value(operation, "scale").astype(np.float32)
        assert operation.type == "constexpr_sparse_to_dense", operation.type
        if "shape" in operation.attributes:  # of iOS 16 and 17: bits in bytes, and the shape
            shape = self.value(operation, "shape")
            mask = np.unpackbits(self.value(operation, "mask"), bitorder="little")[: np.prod(shape)].reshape(shape)
            values = self.value(operation, "nonzero_data")
        else:
            inner = self.by_output[operation.inputs["nonzero_data"].arguments[0].name]
            assert inner.type == "constexpr_sparse_blockwise_shift_scale"
            mask, scale = self.value(inner, "data_mask"), self.value(inner, "scale")
            rows = np.nonzero(mask)[0]
            values = self.value(inner, "nonzero_data").astype(np.float32) * scale[rows, 0].astype(np.float32)
        dense = np.zeros(mask.shape, values.dtype)
        dense[mask.astype(bool)] = values
        return dense

    def matrices(self) -> dict[str, np.ndarray]:
        """Parameter of the model (dots as underscores) -> the matrix that some product reads, in the file's order."""
        read: dict[str, np.ndarray] = {}
        for each in self.operations:
            if each.type == "linear":
                name = each.inputs["weight"].arguments[0].name
                read.setdefault(name.partition("_weight")[0].removeprefix("module_"), self.dense(name))
        return read


LAYERS = {"fp32": 2, "fp16": 1, "int8": 1}
"""Precision -> the layers of its ticket. Of two layers the first reads the matrices of cross-attention twice: a file is
read in the same way in every precision, so one of them shows it.
"""


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Precision -> its ticket."""
    made = {
        layers: save_ticket(tmp_path_factory.mktemp("coreml"), cross_layers=layers) for layers in set(LAYERS.values())
    }
    return {precision: made[layers] for precision, layers in LAYERS.items()}


@pytest.fixture(scope="module")
def artifacts(tickets: dict[str, Path]) -> dict[str, tuple[Path, Artifact]]:
    """Precision -> its ticket in it."""
    outs = {precision: ticket.parent / precision for precision, ticket in tickets.items()}
    return {
        precision: (out, export(open_source(tickets[precision]), out, ExportOptions("coreml", precision)))
        for precision, out in outs.items()
    }


def prunable(folder: Path) -> dict[str, np.ndarray]:
    """The ticket's own weights by the names that a package gives them."""
    found = load_ticket(folder).model.prunable
    return {name.removesuffix(".weight").replace(".", "_"): each.numpy() for name, each in found.items()}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_what_a_phone_reads_is_what_the_ticket_holds(tickets, artifacts, precision) -> None:
    read = Package(artifacts[precision][0] / "model.mlpackage").matrices()
    for name, expected in prunable(tickets[precision]).items():
        found = read[name]
        assert found.shape == expected.shape
        if precision == "fp32":
            np.testing.assert_array_equal(found, expected)
        elif precision == "fp16":
            np.testing.assert_array_equal(found, expected.astype(np.float16))
        else:
            step = np.abs(expected).max(axis=1, keepdims=True) / 127
            assert (np.abs(found - expected) <= 0.6 * step).all()  # half a step, and the scale's own rounding
            assert not found[expected == 0].any()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_zeros_are_counted_in_the_package(tickets, artifacts, precision) -> None:
    kept = load_ticket(tickets[precision]).mask.kept.values()
    zeros, elements = count_zeros(artifacts[precision][0])
    read = Package(artifacts[precision][0] / "model.mlpackage").matrices()
    own = [read[name] for name in prunable(tickets[precision])]
    assert elements == sum(each.size for each in own) == sum(each.numel() for each in kept)
    assert zeros == sum(each.size - np.count_nonzero(each) for each in own)
    assert zeros >= sum(int((~each).sum()) for each in kept)
    if precision == "fp32":
        assert zeros == round(SPARSITY * elements)
    assert artifacts[precision][1].prunable_zeros == zeros / elements


def test_zeros_are_left_out_of_the_bytes(tickets, artifacts) -> None:
    """Of each pruned matrix the package holds as many values as are kept, and a bit for each place."""
    package = Package(artifacts["fp16"][0] / "model.mlpackage")
    sparse = [each for each in package.operations if each.type == "constexpr_sparse_to_dense"]
    own = prunable(tickets["fp16"])
    assert len(sparse) >= sum(each.size >= 65 for each in own.values())
    for each in sparse:
        values, shape = package.value(each, "nonzero_data"), package.value(each, "shape")
        assert values.all()
        assert package.value(each, "mask").size == -(-int(np.prod(shape)) // 8)


def test_no_number_is_beyond_half_precision(artifacts) -> None:
    """A mask of minus infinity, times a zero, would make every score no number."""
    package = Package(artifacts["fp16"][0] / "model.mlpackage")
    for each in package.operations:
        if each.type == "const" and each.outputs[0].type.tensorType.dataType in (10, 11):  # float16, float32
            assert np.isfinite(package.value(each, "val")).all(), each.outputs[0].name
    stored = np.frombuffer(package.weights, np.uint8)
    assert stored.size == (package.path / DATA / "weights" / "weight.bin").stat().st_size


@pytest.mark.parametrize("name", ["lxmert", "visual_bert", "vilt"])
def test_masks_within_half_precision_hide_as_before(name) -> None:
    toy, family = families.TOYS[name], find_family(name)
    model = Model(family.build(toy.config), toy.config, family)
    inputs = families.some_inputs(toy)
    assert int(inputs.attention_mask.min()) == 0
    narrowed = within_half(trace(model, inputs))
    with torch.no_grad():
        np.testing.assert_allclose(narrowed(*inputs).numpy(), score(model, inputs).numpy(), atol=1e-6)


def test_the_artifact_says_what_is_not_proven_here(artifacts) -> None:
    for out, artifact in artifacts.values():
        assert artifact.parity is None
        assert artifact.accuracy is None
        assert "Apple" in artifact.unproven
        assert {f"model.mlpackage/{DATA}/model.mlmodel", "model.mlpackage/Manifest.json"} < set(artifact.files)
        assert artifact.files == {
            path.relative_to(out).as_posix(): sha256(path)
            for path in out.rglob("*")
            if path.is_file() and path.name != "artifact.json"
        }
    assert "iOS 17" in artifacts["fp16"][1].notes[0]
    assert "iOS 18" in artifacts["int8"][1].notes[0]
    assert "zeros are left out" in artifacts["fp16"][1].notes[1]


def test_inputs_have_ranges_and_the_scores_a_name(artifacts) -> None:
    model = read_spec(artifacts["fp16"][0] / "model.mlpackage")
    ranges = {
        each.name: [(size.lowerBound, size.upperBound) for size in each.type.multiArrayType.shapeRange.sizeRanges]
        for each in model.description.input
    }
    words, regions, fixed = (1, 24), (1, 100), (1, 1)
    assert ranges["input_ids"] == ranges["attention_mask"] == [fixed, words]
    assert ranges["visual_feats"] == [fixed, regions, (FEATURES, FEATURES)]
    assert [each.name for each in model.description.output] == ["scores"]


def test_a_smaller_model_is_dense_and_small(tmp_path) -> None:
    folder = save_ticket(tmp_path, granularity="neuron+head", images=2)
    artifact = export(open_source(folder), tmp_path / "out", ExportOptions("coreml", "int8"))
    assert count_zeros(tmp_path / "out")[1] == load_ticket(folder).provenance.sparsity.kept
    assert artifact.notes == ["needs iOS 17 or macOS 14; one question at a time, of up to 24 tokens"]
    assert not any("sparse" in each.type for each in Package(tmp_path / "out" / "model.mlpackage").operations)


@pytest.mark.parametrize("name", ["visual_bert", "vilt"])
def test_families_that_the_converter_does_not_take_are_one_sentence(name, tmp_path) -> None:
    toy, family = families.TOYS[name], find_family(name)
    model = Model(family.build(toy.config), toy.config, family)
    example = families.some_inputs(toy)
    job = Job(
        model=model, example=example, precision="fp16", out=tmp_path, source=tmp_path, ticket=None, calibration=list
    )
    with pytest.raises(ExportError, match=r"^[^\n]*could not convert the model[^\n]*$"):
        write(job)


@pytest.mark.parametrize("family", ["visual_bert", "vilt"])
def test_other_families_are_refused_in_our_words_before_anything_is_converted(family, tmp_path) -> None:
    toy, adapter = families.TOYS[family], find_family(family)
    model = Model(adapter.build(toy.config), toy.config, adapter)
    save_model(tmp_path / "model", model, model.weights, shipped_vocabulary())
    with pytest.raises(
        ExportError, match=f"supports only lxmert models, and this is a {family} model.*--format executorch"
    ):
        export(open_source(tmp_path / "model"), tmp_path / "out", ExportOptions("coreml"))
    assert not (tmp_path / "out").exists()


def test_a_package_of_one_shape_has_no_ranges(tmp_path) -> None:
    ticket = save_ticket(tmp_path)
    shape = FixedShape(9, 5)
    artifact = export(open_source(ticket), tmp_path / "fixed", ExportOptions("coreml", "fp32", fixed=shape))
    sizes = {
        value.name: list(value.type.multiArrayType.shape)
        for value in read_spec(tmp_path / "fixed" / "model.mlpackage").description.input
        if not value.type.multiArrayType.HasField("shapeRange")
    }
    assert sizes["input_ids"] == sizes["attention_mask"] == [1, 9]
    assert (sizes["visual_feats"], sizes["visual_attention_mask"]) == ([1, 5, FEATURES], [1, 5])
    assert artifact.notes == [
        "needs iOS 17 or macOS 14",
        "zeros are left out of the weights: a bit for each weight, and the values of those that are kept",
        "takes one question at a time, of 9x5 tokens x regions; smaller ones are padded",
    ]
