"""Laws of fusion: the fused file answers as the plain one, whatever is padded; a fusion that lies is not kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from lxcompress.exporters.fuse import count_fused, fuse, fuse_where_true, respell_attention
from lxcompress.exporters.onnx import OUTPUT, count_zeros, save
from lxcompress.exporters.products import find_reads, shapes_of, steps_of
from lxcompress.runtimes import open_session
from tests.export.graphs import NAMES, SIZES, SMALLER, Traced, questions, scores, traced

ATTENTIONS = {"lxmert": 3, SMALLER: 3, "lxmert of two images": 1, "visual_bert": 0, "vilt": 0}
"""Self-attentions of LXMERT: one a layer of words or regions, two a cross layer, less the dead one. The masks of the
other families are not those that the optimizer knows."""


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def given(name: str) -> Traced:
    return traced(name)


@pytest.fixture(scope="module")
def fused(given: Traced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(fuse(onnx.load(given.path), attention=True), tmp_path_factory.mktemp("fused"))


@pytest.mark.parametrize(("count", "tokens", "objects"), SIZES)
def test_a_fused_file_answers_as_torch_does(given, fused, count, tokens, objects) -> None:
    inputs = questions(given, count, tokens, objects)
    found = open_session(fused, threads=1).answer(inputs.numpy())
    np.testing.assert_allclose(found, scores(given.model, inputs), atol=2e-4)


def test_all_layers_are_fused_and_all_self_attention_of_lxmert(name, given, fused) -> None:
    graph = onnx.load(fused).graph
    kinds = [node.op_type for node in graph.node if node.domain == "com.microsoft"]
    blocks = len(given.model.family.feed_forwards(given.model.module))
    assert kinds.count("Attention") == ATTENTIONS[name]
    assert kinds.count("BiasGelu") == blocks
    assert kinds.count("SkipLayerNormalization") >= 2 * blocks
    assert count_fused(graph).count(",") == len(set(kinds)) - 1


def test_inputs_outputs_and_free_sizes_stay(given, fused) -> None:
    onnx.checker.check_model(str(fused))
    plain, graph = onnx.load(given.path).graph, onnx.load(fused).graph
    assert list(graph.input) == list(plain.input)
    assert graph.output[0].type == plain.output[0].type
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_zeros_are_counted_in_what_was_fused(given, fused) -> None:
    assert count_zeros(given.path.parent) == (given.removed, given.prunable)
    assert count_zeros(fused.parent) == (given.removed, given.prunable)


def test_respelling_changes_no_answer(given, tmp_path) -> None:
    model = onnx.load(given.path)
    respell_attention(model.graph)
    inputs = questions(given, 3, 9, 4)
    found = open_session(save(model, tmp_path), threads=1).answer(inputs.numpy())
    np.testing.assert_array_equal(found, open_session(given.path, threads=1).answer(inputs.numpy()))


def spoil(model: ModelProto, factor: float) -> None:
    """Scales the matrix of the last product."""
    read = find_reads(steps_of(model.graph), shapes_of(model.graph))[-1].name
    tensor = next(each for each in model.graph.initializer if each.name == read)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), read))


@pytest.mark.parametrize(("spoilt", "kept"), [((), "fused-1"), (("fused-1",), "fused-0"), (("fused-1", "fused-0"), "")])
def test_the_most_fusions_that_tell_the_truth_are_kept(spoilt, kept, tmp_path) -> None:
    """`save` is told to write a lie: what was written is what is compared."""
    given = traced("lxmert")
    plain = save(onnx.load(given.path), tmp_path / "plain")

    def write(model: ModelProto, folder: Path) -> Path:
        if folder.name in spoilt:
            spoil(model, 1.5)
        return save(model, folder)

    path, note = fuse_where_true(plain, [questions(given, 2, 6, 3).numpy()], write, attention=True)
    assert path.parent.name == (kept or "plain")
    assert ("3 Attention" in note) == (kept == "fused-1")
    assert ("SkipLayerNormalization" in note) == bool(kept)
    assert bool(kept) or "nothing (its fused form: its answers differ from the ticket's" in note


def test_static_files_keep_attention_apart(tmp_path) -> None:
    given = traced("lxmert")
    plain = save(onnx.load(given.path), tmp_path / "plain")
    _, note = fuse_where_true(plain, [questions(given, 2, 6, 3).numpy()], save, attention=False)
    assert "Attention" not in note
    assert onnx.load(plain).graph.output[0].name == OUTPUT
