"""Laws of the LiteRT format: answers and weights are the ticket's, and smaller questions fit the file's one shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lxcompress.errors import MeasureError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.formats import ExportOptions
from lxcompress.records import Artifact
from lxcompress.runtimes import Session, open_session
from lxcompress.shapes import FixedShape
from lxcompress.tickets import load_ticket
from tests.export.small import SPARSITY, save_ticket, score, some_inputs

pytest.importorskip("litert_torch", reason="litert-torch is not installed: pip install 'lxcompress[litert]'")

from lxcompress.exporters.litert import count_zeros

CHOSEN = FixedShape(20, 36)
"""The shape of a file whose data are not known."""


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ticket whose first cross layer multiplies with the same matrices after two layer norms."""
    return save_ticket(tmp_path_factory.mktemp("litert"), cross_layers=2)


@pytest.fixture(scope="module")
def exported(ticket: Path) -> Artifact:
    return export(open_source(ticket), ticket.parent / "fp32", ExportOptions("litert"))


@pytest.fixture(scope="module")
def session(ticket: Path, exported: Artifact) -> Session:
    return open_session(ticket.parent / "fp32", threads=1, runtime="litert")


@pytest.mark.parametrize(("rows", "tokens", "objects"), [(1, 1, 1), (1, 20, 36), (5, 9, 7)])
def test_the_file_answers_as_the_ticket_at_every_shape(ticket, session, rows, tokens, objects) -> None:
    inputs = some_inputs(rows, tokens, objects)
    expected = score(load_ticket(ticket).model, inputs).numpy()
    np.testing.assert_allclose(session.answer(inputs.numpy()), expected, atol=1e-5)


def test_larger_questions_and_other_words_are_refused(session) -> None:
    with pytest.raises(MeasureError, match=r"takes at most 20 tokens and 36 regions.* 21 tokens .*--fixed 21x36"):
        session.answer(some_inputs(1, 21, 5).numpy())
    feeds = some_inputs(1, 9, 5).numpy()
    with pytest.raises(MeasureError, match=r"^[^\n]*takes visual_feats of exactly 1 x 36 x 12[^\n]*given 1 x 36 x 11"):
        session.answer({**feeds, "visual_feats": feeds["visual_feats"][..., :-1]})
    with pytest.raises(MeasureError, match=r"^[^\n]*LiteRT failed while answering \([^\n]*out of bounds[^\n]*$"):
        session.answer({**feeds, "input_ids": feeds["input_ids"] + 50})


def test_the_artifact_tells_its_shape_and_what_was_proven(exported) -> None:
    assert exported.fixed == CHOSEN
    assert exported.notes == [
        "takes one question at a time, of 20x36 tokens x regions, which holds every question that checked it; give "
        "--fixed for another; smaller ones are padded"
    ]
    assert set(exported.files) >= {"model.tflite"}
    assert exported.parity.questions == 30
    assert exported.parity.max_abs_difference <= exported.parity.tolerance


def test_zeros_are_counted_in_the_file(ticket, exported) -> None:
    kept = load_ticket(ticket).mask.kept.values()
    zeros, elements = count_zeros(ticket.parent / "fp32")
    assert elements == sum(mask.numel() for mask in kept)
    assert zeros == round(SPARSITY * elements) == sum(int((~mask).sum()) for mask in kept)
    assert exported.prunable_zeros == zeros / elements


def test_int8_keeps_zeros_and_is_made_of_the_fp32_file(ticket, exported, tmp_path) -> None:
    """Its quantiser reads the file alone, so no model is traced twice."""
    options = ExportOptions("litert", "int8", fp32=ticket.parent / "fp32")
    artifact = export(open_source(ticket), tmp_path / "int8", options)
    zeros, elements = count_zeros(tmp_path / "int8")
    assert elements == sum(mask.numel() for mask in load_ticket(ticket).mask.kept.values())
    assert elements > zeros >= exported.prunable_zeros * elements
    assert artifact.parity.tolerance is None
    inputs = some_inputs(6, 9, 5)
    found = open_session(tmp_path / "int8", threads=1, runtime="litert").answer(inputs.numpy())
    expected = score(load_ticket(ticket).model, inputs).numpy()
    assert 0 < np.abs(found - expected).max() < 0.06 * np.abs(expected).max()


def test_int8_of_a_pair_takes_two_rows_a_question(tmp_path, capfd) -> None:
    """And nothing of what the libraries print reaches the terminal."""
    folder = save_ticket(tmp_path, images=2)
    artifact = export(open_source(folder), tmp_path / "int8", ExportOptions("litert", "int8", fixed=FixedShape(9, 5)))
    assert (artifact.fixed, artifact.positions) == (FixedShape(9, 5), 9)
    session, inputs = open_session(tmp_path / "int8", threads=1, runtime="litert"), some_inputs(6, 7, 5)
    assert session.answer(inputs.numpy()).shape == (3, 7)
    assert [path.name for path in (tmp_path / "int8").glob("*.tflite")] == ["model.tflite"]
    assert capfd.readouterr() == ("", "")
