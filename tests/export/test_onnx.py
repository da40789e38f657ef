"""Laws of export: the file answers as its ticket, at every shape; its zeros are counted in it; a lie is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from lxcompress.data.split import Inputs
from lxcompress.data.tasks import load_task
from lxcompress.errors import ExportError
from lxcompress.export.artifact import default_out, export, open_source
from lxcompress.export.onnx import count_zeros
from lxcompress.export.parity import check, compare
from lxcompress.models.checkpoints import load_model
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import sha256
from lxcompress.runtimes import open_session
from lxcompress.study.run import run_study
from lxcompress.tickets import load_ticket

TICKET = "low-magnitude-weight-50-seed0"


@pytest.fixture(scope="module")
def run(toy_recipe, tmp_path_factory) -> Path:
    """A run folder with one ticket."""
    root = tmp_path_factory.mktemp("run")
    run_study(toy_recipe, root, only=TICKET)
    return root


@pytest.fixture(scope="module")
def exported(run) -> Path:
    """The ticket as ONNX, where export puts it by itself."""
    folder = run / "tickets" / TICKET
    out = default_out(folder, "onnx")
    export(open_source(folder), out, format="onnx")
    return out


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
    assert artifact.files == {path.name: sha256(path) for path in exported.iterdir() if path.name != "artifact.json"}
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
    assert not any("x_layers.1.visn" in each.name for each in graph.initializer)


def test_batch_length_and_regions_are_free(exported) -> None:
    graph = onnx.load(exported / "model.onnx").graph
    onnx.checker.check_model(str(exported / "model.onnx"))
    shapes = {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim]
        for each in graph.input
    }
    assert shapes["input_ids"] == shapes["attention_mask"] == ["batch", "tokens"]
    assert shapes["visual_feats"][:2] == shapes["visual_pos"][:2] == ["batch", "objects"]


def test_a_dense_run_exports_too_and_knows_its_accuracy(run) -> None:
    folder = run / "seeds" / "0" / "dense"
    artifact = export(open_source(folder), run / "dense-onnx", format="onnx")
    assert artifact.cell is None
    assert artifact.accuracy == artifact.source_accuracy


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
        reference, open_session(tmp_path, threads=1).answer, feeds, inputs="random inputs", precision="fp32"
    )
    with pytest.raises(ExportError, match="answers otherwise than its ticket"):
        check(wrong, "here")
    right = compare(
        reference, open_session(exported, threads=1).answer, feeds, inputs="random inputs", precision="fp32"
    )
    check(right, "here")


def test_scores_that_are_not_numbers_fail_parity() -> None:
    nothing = np.full((2, 3), np.nan, dtype=np.float32)
    found = compare(lambda _: np.zeros((2, 3)), lambda _: nothing, [{}], inputs="none", precision="int8")
    with pytest.raises(ExportError):
        check(found, "here")


def test_an_unknown_format_is_refused(run, tmp_path) -> None:
    with pytest.raises(ExportError, match="--format tflite: is unknown"):
        export(open_source(run / "tickets" / TICKET), tmp_path, format="tflite")


def test_the_data_of_the_study_is_what_proves_the_file(run, toy_recipe) -> None:
    source = open_source(run / "tickets" / TICKET)
    assert source.data == toy_recipe.data
    assert len(load_task(source.data).valid) == 64
