"""Laws of fixed shapes: a file of one shape answers all questions that fit into it, and names those that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from lxcompress.errors import ExportError, MeasureError
from lxcompress.exporters.artifact import default_out, export, open_source
from lxcompress.exporters.fix import fix_shapes
from lxcompress.exporters.formats import ExportOptions, check_fixed, parse_fixed
from lxcompress.exporters.onnx import save
from lxcompress.exporters.ort import convert
from lxcompress.measure.evaluate import evaluate
from lxcompress.measure.plan import BenchOptions, make_plan
from lxcompress.models.checkpoints import save_model
from lxcompress.records import Artifact, read_record
from lxcompress.runtimes import open_session
from lxcompress.runtimes.fixed import FixedShapeSession
from lxcompress.shapes import FixedShape
from tests.conftest import TOY_CELL
from tests.export.graphs import NAMES, SIZES, Traced, questions, scores, traced
from tests.measure.artifacts import build_artifact
from tests.runtimes.toy import draw_feeds

SHAPE = FixedShape(16, 9)


@pytest.mark.parametrize("name", NAMES)
def test_padded_questions_get_the_scores_of_the_model(name: str, tmp_path: Path) -> None:
    given = traced(name)
    images = given.model.family.count_images(given.model.config)
    shape = FixedShape(SHAPE.tokens, 1) if name == "vilt" else SHAPE
    graph = onnx.load(given.path)
    fix_shapes(graph.graph, shape, images=images)
    path = save(graph, tmp_path)
    sizes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.graph.input, *graph.graph.output)
    }
    assert sizes["input_ids"] == sizes["attention_mask"] == [images, shape.tokens]
    assert sizes["visual_pos"] == [images, shape.objects, 4]
    assert sizes["scores"] == [1, 7]
    convert(path, tmp_path / "mobile", keep_half=False)
    for served in (path, tmp_path / "mobile" / "model.ort"):
        check_padded(FixedShapeSession(served, open_session(served, threads=1), shape, images), given)


def check_padded(session: FixedShapeSession, given: Traced) -> None:
    shape = session.shape
    for count, tokens, objects in (*SIZES, (2, shape.tokens, shape.objects)):
        inputs = questions(given, count, tokens, objects)
        np.testing.assert_allclose(session.answer(inputs.numpy()), scores(given.model, inputs), atol=1e-5)


def test_an_exported_file_is_fixed_scored_and_planned(tiny_run, tiny_onnx, tiny_recipe, tmp_path) -> None:
    """Made of the fp32 file, so that no model is traced."""
    source, shape, out = open_source(tiny_run / "tickets" / TOY_CELL), FixedShape(24, 10), tmp_path / "fixed"
    artifact = export(source, out, ExportOptions("onnx", "int8", fp32=tiny_onnx, fixed=shape))
    assert (artifact.fixed, artifact.positions) == (shape, 24)
    assert artifact.tokens < 24
    assert artifact.flops > read_record(tiny_onnx / "artifact.json", Artifact).flops
    assert read_record(out / "artifact.json", Artifact) == artifact
    assert evaluate(str(out), tiny_recipe).score == artifact.accuracy
    free = open_session(tiny_onnx, threads=1)
    feeds = draw_feeds(3, 7, 5, features=artifact.feature_size)
    difference = np.abs(open_session(out, threads=1).answer(feeds) - free.answer(feeds)).max()
    assert 0 < difference < 0.1  # int8 rounds
    assert make_plan([out], BenchOptions(lengths=(24,))).groups
    with pytest.raises(MeasureError, match="reads at most 24 tokens per question, but a question of 25 is asked for"):
        make_plan([out], BenchOptions(lengths=(25,)))
    with pytest.raises(
        ExportError, match=r"--fixed 4x10: .* up to [0-9]+ tokens and 7 regions; give --fixed [0-9]+x10"
    ):
        export(source, out, ExportOptions("onnx", fixed=FixedShape(4, 10)))


def test_a_record_with_a_shape_makes_a_session_that_pads(tmp_path: Path) -> None:
    """And a larger question, or one that is not finite, is refused in one sentence."""
    folder = build_artifact(tmp_path / "fixed", fixed=FixedShape(7, 5))
    session, feeds = open_session(folder, threads=1), draw_feeds(2, 7, 5)
    np.testing.assert_allclose(
        session.answer(feeds), open_session(build_artifact(tmp_path / "free"), threads=1).answer(feeds)
    )
    with pytest.raises(MeasureError, match=r"takes at most 7 tokens and 5 regions.* 8 tokens and 5 regions; .* 8x5 or"):
        session.answer(draw_feeds(1, 8, 5))
    with pytest.raises(MeasureError, match="--fixed 7x6 or without"):
        open_session(folder / "model.onnx", threads=1).answer(draw_feeds(1, 3, 6))
    feeds["visual_feats"][1, 0, 0] = np.nan
    with pytest.raises(MeasureError, match="visual_feats holds NaN or infinity in question 1"):
        session.answer(feeds)
    (folder / "artifact.json").write_text('{"fixed": {"tokens": 0, "objects": 5}}', encoding="utf-8")
    with pytest.raises(MeasureError, match=r"artifact.json: its fixed shape cannot be read \(expected 1 token"):
        open_session(folder, threads=1)


@pytest.mark.parametrize("text", ["20", "20x", "0x36", "20x36x1", "axb", "-1x4", "20X36.5", "٢x٣", ""])
def test_a_malformed_shape_is_refused(text: str) -> None:
    with pytest.raises(ExportError, match=r"--fixed .*: expected tokens x regions, each 1 or more; give 20x36, for"):
        parse_fixed(text)


def test_a_shape_is_read_as_it_is_written() -> None:
    assert parse_fixed(" 20X36 ") == FixedShape(20, 36) == parse_fixed(str(FixedShape(20, 36)))


def test_a_format_of_free_shapes_refuses_one() -> None:
    with pytest.raises(ExportError, match=r"--fixed 20x36: format bitmask has no fixed shapes; .* --format onnx"):
        check_fixed("bitmask", FixedShape(20, 36))
    check_fixed("bitmask", None)
    check_fixed("onnx", FixedShape(20, 36))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("visual_bert", FixedShape(999, 9), "asks for 999 tokens, but this model has [0-9]+ positions; give at most"),
        ("vilt", FixedShape(9, 2), "asks for 2 regions, but ViLT reads a picture as one region; give --fixed 9x1"),
    ],
)
def test_a_shape_that_the_model_cannot_read_is_refused(name: str, shape: FixedShape, said: str, tmp_path: Path) -> None:
    model = traced(name).model
    save_model(tmp_path / "model", model, model.weights, [f"word{number}" for number in range(50)])
    with pytest.raises(ExportError, match=f"--fixed {shape}: {said}"):
        export(open_source(tmp_path / "model"), tmp_path / "out", ExportOptions("onnx", fixed=shape))
    assert not (tmp_path / "out").exists()


def test_the_default_folder_names_the_shape(tmp_path: Path) -> None:
    assert default_out(tmp_path / "model", "onnx", "int8", FixedShape(20, 36)).name == "model-onnx-int8-20x36"
    assert default_out(tmp_path / "model", "onnx", None, FixedShape(20, 36)).name == "model-onnx-20x36"
