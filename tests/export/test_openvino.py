"""Laws of the OpenVINO format: answers and zeros are the ticket's, in each precision and for each family and cut."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions, Job
from lxcompress.exporters.openvino import count_zeros, write
from lxcompress.models.checkpoints import Model
from lxcompress.models.family import find_family
from lxcompress.records import Artifact
from lxcompress.runtimes import open_session
from lxcompress.tickets import load_ticket
from tests.export.small import FEATURES, SPARSITY, save_ticket, score, some_inputs
from tests.models import families

NARROW = ("fp16", "int8")


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ticket(tmp_path_factory.mktemp("openvino"), cross_layers=2)


@pytest.fixture(scope="module")
def exported(ticket: Path) -> Callable[[str], tuple[Path, Artifact]]:
    """A function from a precision to the ticket in it: made once, and only read."""

    @functools.cache
    def make(precision: str) -> tuple[Path, Artifact]:
        out = ticket.parent / precision
        return out, export(open_source(ticket), out, ExportOptions("openvino", precision))

    return make


@pytest.mark.parametrize(("rows", "tokens", "objects"), [(1, 1, 1), (1, 20, 36), (5, 9, 7), (32, 24, 2)])
def test_the_files_answer_as_the_ticket_at_every_shape(ticket, exported, rows, tokens, objects) -> None:
    inputs = some_inputs(rows, tokens, objects)
    found = open_session(exported("fp32")[0], threads=1, runtime="openvino").answer(inputs.numpy())
    np.testing.assert_allclose(found, score(load_ticket(ticket).model, inputs).numpy(), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", *(pytest.param(name, marks=pytest.mark.native) for name in NARROW)])
def test_zeros_are_counted_in_the_files(ticket, exported, precision) -> None:
    kept = load_ticket(ticket).mask.kept.values()
    out, artifact = exported(precision)
    zeros, elements = count_zeros(out)
    assert elements == sum(each.numel() for each in kept)
    assert zeros >= sum(int((~each).sum()) for each in kept)
    if precision == "fp32":
        assert zeros == round(SPARSITY * elements)
    assert artifact.prunable_zeros == zeros / elements


@pytest.mark.native
def test_weights_take_as_many_bytes_as_their_precision(exported) -> None:
    sizes = {precision: (exported(precision)[0] / "model.bin").stat().st_size for precision in ("fp32", *NARROW)}
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert sizes["int8"] < 0.5 * sizes["fp32"]


@pytest.mark.native
def test_each_precision_is_proven_by_its_own_measure(exported) -> None:
    for precision in ("fp32", *NARROW):
        _, artifact = exported(precision)
        assert artifact.precision == precision
        assert artifact.parity.questions == 30
        assert (artifact.parity.tolerance is None) == (precision == "int8")
    assert "calibration questions" in exported("int8")[1].notes[0]


def test_inputs_are_named_and_only_features_have_a_size(exported) -> None:
    model = openvino.Core().read_model(str(exported("fp32")[0] / "model.xml"))
    shapes = {each.get_any_name(): str(each.partial_shape) for each in model.inputs}
    assert shapes.pop("visual_feats") == f"[?,?,{FEATURES}]"
    assert shapes.pop("visual_pos") == "[?,?,4]"
    assert shapes == dict.fromkeys(("input_ids", "attention_mask", "visual_attention_mask"), "[?,?]")


@pytest.mark.native
def test_a_smaller_model_is_exported_as_one(tmp_path) -> None:
    folder = save_ticket(tmp_path, granularity="neuron+head")
    artifact = export(open_source(folder), tmp_path / "out", ExportOptions("openvino"))
    assert count_zeros(tmp_path / "out")[1] == load_ticket(folder).provenance.sparsity.kept
    assert artifact.parity.max_abs_difference <= artifact.parity.tolerance


@pytest.mark.native
def test_a_question_over_two_images_takes_two_rows(tmp_path) -> None:
    folder = save_ticket(tmp_path, images=2)
    export(open_source(folder), tmp_path / "out", ExportOptions("openvino"))
    session, inputs = open_session(tmp_path / "out", threads=1, runtime="openvino"), some_inputs(6, 9, 5)
    np.testing.assert_allclose(
        session.answer(inputs.numpy()), score(load_ticket(folder).model, inputs).numpy(), atol=1e-5
    )


@pytest.mark.native
@pytest.mark.parametrize("name", ["visual_bert", "vilt"])
def test_the_other_families_answer_alike(name, tmp_path) -> None:
    toy, family = families.TOYS[name], find_family(name)
    model = Model(family.build(toy.config), toy.config, family)
    job = Job(
        model=model,
        example=families.some_inputs(toy),
        precision="fp32",
        out=tmp_path,
        source=tmp_path,
        ticket=None,
        calibration=list,
    )
    write(job)
    assert count_zeros(tmp_path) == (0, sum(each.numel() for each in model.prunable.values()))
    session = open_session(tmp_path, threads=1, runtime="openvino")
    for rows, tokens in ((1, 3), (4, 20)):
        inputs = families.some_inputs(toy, rows=rows, tokens=tokens)
        np.testing.assert_allclose(session.answer(inputs.numpy()), score(model, inputs).numpy(), atol=1e-5)
