"""Laws of export: the file answers as its ticket, at every shape; its zeros are counted in it; a lie is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from onnx import numpy_helper

from lxcompress.data.split import Inputs
from lxcompress.data.tasks import load_task
from lxcompress.errors import ExportError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.fold import fold_constants
from lxcompress.exporters.formats import ExportOptions
from lxcompress.exporters.onnx import count_zeros, move, save, trace
from lxcompress.exporters.parity import check, compare
from lxcompress.exporters.products import find_reads, shapes_of, steps_of
from lxcompress.models.checkpoints import Model, load_model
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import sha256
from lxcompress.runtimes import open_session
from lxcompress.tickets import load_ticket
from tests.conftest import TOY_CELL
from tests.export.graphs import FAMILIES, NAMES, SMALLER, scores, traced
from tests.export.test_ships_no_path import paths_in

TICKET = TOY_CELL


@pytest.fixture
def run(tiny_run) -> Path:
    """A run folder with one ticket."""
    return tiny_run


@pytest.fixture
def exported(tiny_onnx) -> Path:
    """The ticket as ONNX."""
    return tiny_onnx


def random_inputs(model, batch: int, tokens: int, objects: int) -> Inputs:
    generator = torch.Generator().manual_seed(batch * 100 + tokens)
    mask = torch.ones(batch, tokens, dtype=torch.int64)
    mask[0, tokens // 2 + 1 :] = 0
    seen = torch.ones(batch, objects, dtype=torch.int64)
    seen[-1, objects // 2 + 1 :] = 0
    return Inputs(
        torch.randint(5, model.config.vocab_size, (batch, tokens), generator=generator),
        mask,
        torch.randn(batch, objects, model.config.visual_feat_dim, generator=generator),
        torch.rand(batch, objects, 4, generator=generator),
        seen,
    )


@pytest.mark.parametrize(("batch", "tokens", "objects"), [(1, 3, 1), (1, 20, 36), (5, 9, 7), (64, 13, 10), (2, 64, 2)])
def test_the_file_answers_as_the_ticket_at_every_shape(run, exported, batch, tokens, objects) -> None:
    ticket = load_ticket(run / "tickets" / TICKET)
    inputs = random_inputs(ticket.model, batch, tokens, objects)
    with torch.no_grad():
        expected = ticket.model.family.answer(ticket.model.module, inputs).numpy()
    found = open_session(exported, threads=1).answer(inputs.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_artifact_json_tells_the_truth(run, exported) -> None:
    artifact = read_record(exported / "artifact.json", Artifact)
    assert artifact.cell == TICKET
    sealed = ("artifact.json", "reliability.json")  # records with a checksum of their own
    assert artifact.files == {path.name: sha256(path) for path in exported.iterdir() if path.name not in sealed}
    assert artifact.size_bytes == sum((exported / name).stat().st_size for name in artifact.files)
    assert artifact.parity.max_abs_difference <= artifact.parity.tolerance
    assert artifact.parity.questions == 64
    assert artifact.accuracy == artifact.source_accuracy == load_ticket(run / "tickets" / TICKET).provenance.accuracy


def test_zeros_are_counted_in_the_file(run, exported) -> None:
    mask = load_ticket(run / "tickets" / TICKET).mask
    removed = sum(int((~kept).sum()) for kept in mask.kept.values())
    zeros, elements = count_zeros(exported)
    assert elements == sum(kept.numel() for kept in mask.kept.values())
    assert zeros >= removed
    assert read_record(exported / "artifact.json", Artifact).prunable_zeros == zeros / elements


def test_the_dead_branch_is_not_in_the_file(run, exported) -> None:
    graph = onnx.load(exported / "model.onnx").graph
    stored = sum(numpy_helper.to_array(each).size for each in graph.initializer)
    assert stored < load_model(run / "tickets" / TICKET).whole
    assert not any("x_layers.0.visn" in each.name for each in graph.initializer)


def test_batch_length_and_regions_are_free(exported) -> None:
    graph = onnx.load(exported / "model.onnx").graph
    onnx.checker.check_model(str(exported / "model.onnx"))
    shapes = {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim]
        for each in graph.input
    }
    assert shapes["input_ids"] == shapes["attention_mask"] == ["batch", "tokens"]
    assert shapes["visual_feats"][:2] == shapes["visual_pos"][:2] == ["batch", "objects"]


def test_a_dense_run_exports_too_knows_its_accuracy_and_prints_nothing(run, tmp_path, capfd) -> None:
    """In fp32, and in int8 made of it: the model is traced once for both."""
    told: list[str] = []
    source, plain, narrow = open_source(run / "seeds" / "0" / "dense"), tmp_path / "fp32", tmp_path / "int8"
    artifact = export(source, plain, ExportOptions("onnx"), progress=lambda what, *_: told.append(what))
    assert artifact.cell is None
    assert artifact.accuracy == artifact.source_accuracy
    assert artifact.notes == ["fused: 1 Attention, 1 BiasGelu, 3 SkipLayerNormalization"]
    options = ExportOptions("onnx", "int8", fp32=plain)
    export(source, narrow, options, progress=lambda what, *_: told.append(what))
    assert capfd.readouterr() == ("", "")
    assert {"tracing the model", "fusing its steps", "writing it in fp32", "writing it in int8"} <= set(told)
    for folder in (plain, narrow):
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["artifact.json", "config.json", "model.onnx", "reliability.json", "vocab.txt"]


def test_answers_that_differ_are_an_error(run, exported, tmp_path) -> None:
    """A file of other weights, put in the place of the right one, does not pass for the ticket's."""
    ticket = load_ticket(run / "tickets" / TICKET)
    feeds = [random_inputs(ticket.model, 4, 9, 5).numpy()]

    def reference(each):
        with torch.no_grad():
            inputs = Inputs(**{name: torch.from_numpy(array) for name, array in each.items()})
            return ticket.model.family.answer(ticket.model.module, inputs).numpy()

    graph = onnx.load(exported / "model.onnx")
    weight = next(each for each in graph.graph.initializer if each.name.endswith("pooler.dense.weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.5, weight.name))
    onnx.save(graph, tmp_path / "model.onnx")
    wrong = compare(
        reference,
        open_session(tmp_path, threads=1).answer,
        feeds,
        where="here",
        inputs="random inputs",
        precision="fp32",
    )
    with pytest.raises(ExportError, match="its answers differ from the ticket's"):
        check(wrong, "here")
    right = compare(
        reference,
        open_session(exported, threads=1).answer,
        feeds,
        where="here",
        inputs="random inputs",
        precision="fp32",
    )
    check(right, "here")


def test_scores_that_are_not_numbers_fail_parity() -> None:
    nothing = np.full((2, 3), np.nan, dtype=np.float32)
    with pytest.raises(ExportError, match="here: its scores are NaN or infinite"):
        compare(lambda _: np.zeros((2, 3)), lambda _: nothing, [{}], where="here", inputs="none", precision="int8")


def test_an_unknown_format_is_refused(run, tmp_path) -> None:
    with pytest.raises(ExportError, match="--format tflite: is unknown"):
        export(open_source(run / "tickets" / TICKET), tmp_path, ExportOptions("tflite"))


def test_the_data_of_the_study_is_what_proves_the_file(run, tiny_recipe) -> None:
    source = open_source(run / "tickets" / TICKET)
    assert source.data == tiny_recipe.data
    assert len(load_task(source.data).valid) == 64


def test_the_file_does_not_say_where_it_was_made(exported) -> None:
    assert paths_in(exported, str(exported.parent)) == []
    content = (exported / "model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content


def test_an_opset_that_is_not_had_is_refused() -> None:
    """Those that are had are in tests/export/test_versions.py."""
    given = traced("visual_bert")
    for opset in (12, 99):  # neither is tried
        with pytest.raises(ExportError, match=f"--opset {opset}: .* give 17 to 25"):
            trace(given.model, given.example, opset)


def test_weights_too_large_for_one_file_go_beside_it(tmp_path, monkeypatch) -> None:
    given = traced("visual_bert")
    monkeypatch.setattr("lxcompress.exporters.onnx.MOST_BYTES_IN_ONE_FILE", 1000)
    path = save(onnx.load(given.path), tmp_path / "stage")
    moved = move(path.parent, tmp_path)
    assert [each.name for each in moved] == ["model.onnx", "model.onnx.data"]
    assert moved[0].stat().st_size < moved[1].stat().st_size
    assert count_zeros(tmp_path) == (given.removed, given.prunable)
    found = open_session(tmp_path, threads=1).answer(given.example.numpy())
    np.testing.assert_allclose(found, scores(given.model, given.example), atol=1e-5)
    monkeypatch.undo()
    assert move(save(onnx.load(given.path), tmp_path / "stage-2").parent, tmp_path) == [tmp_path / "model.onnx"]
    assert not (tmp_path / "model.onnx.data").exists()


def graph_of(nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray]) -> onnx.ModelProto:
    """x -> scores."""
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "scores")]
    tensors = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = onnx.helper.make_graph(nodes, "g", [info[0]], [info[1]], tensors)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def test_what_stored_tensors_alone_decide_is_stored_once() -> None:
    node, draw = onnx.helper.make_node, np.random.default_rng(0)
    w = draw.standard_normal((8, 8)).astype(np.float32)
    model = graph_of(
        [
            node("Transpose", ["w"], ["t1"], perm=[1, 0]),
            node("Transpose", ["w"], ["t2"], perm=[1, 0]),
            node("Cast", ["t2"], ["c"], to=onnx.TensorProto.FLOAT),
            node("Reshape", ["c", "shape"], ["r"]),
            node("MatMul", ["x", "t1"], ["y"]),
            node("MatMul", ["y", "r"], ["z"]),
            node("Expand", ["one", "large"], ["e"]),
            node("MatMul", ["z", "copy"], ["a"]),
            node("Add", ["a", "e"], ["scores"]),
        ],
        {
            "w": w,
            "copy": w.T.copy(),
            "shape": np.array([8, -1]),
            "one": np.ones(1, np.float32),
            "large": np.array([2048, 3, 1]),
        },
    )
    x = draw.standard_normal((3, 8)).astype(np.float32)
    before = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert fold_constants(model) == 4
    assert [each.op_type for each in model.graph.node] == ["MatMul", "MatMul", "Expand", "MatMul", "Add"]
    assert len({each.input[1] for each in model.graph.node if each.op_type == "MatMul"}) == 1
    assert sorted(each.name for each in model.graph.initializer if len(each.dims) == 2) == ["copy"]
    after = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_array_equal(after, before)
    assert fold_constants(model) == 0


def test_the_file_of_a_smaller_model_answers_as_it_and_is_smaller() -> None:
    given = traced(SMALLER)
    found = open_session(given.path, threads=1).answer(given.example.numpy())
    np.testing.assert_allclose(found, scores(given.model, given.example), atol=1e-5)
    stored = sum(numpy_helper.to_array(each).size for each in onnx.load(given.path).graph.initializer)
    whole = Model(given.model.family.build(given.whole), given.whole, given.model.family)
    assert given.model.live < whole.live
    assert stored < whole.live - (whole.live - given.model.live) / 2  # some of cross-attention's are stored both ways


@pytest.mark.parametrize("name", NAMES)
def test_every_matrix_of_a_model_is_stored_once_and_read_directly(name) -> None:
    """LXMERT's cross-attention reads its matrices twice, each time turned round as torch leaves it."""
    given = traced(name)
    graph = onnx.load(given.path).graph
    stored = {tensor.name for tensor in graph.initializer}
    reads = find_reads(steps_of(graph), shapes_of(graph))
    assert all(set(each.product.inputs[:2]) & stored for each in reads)
    assert len({each.name for each in reads}) == given.matrices
    assert (len(reads) > given.matrices) == (FAMILIES[name][2].get("x_layers", 0) > 1)
    turned = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in stored]
    assert not turned
