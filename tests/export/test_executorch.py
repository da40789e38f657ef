"""Laws of the ExecuTorch format: answers and zeros are the ticket's, for questions of any length within its bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lxcompress.errors import MeasureError
from lxcompress.exporters.artifact import export, open_source
from lxcompress.exporters.executorch import count_zeros, lower
from lxcompress.exporters.formats import ExportOptions
from lxcompress.records import Artifact
from lxcompress.runtimes import Session, open_session
from lxcompress.shapes import FixedShape
from lxcompress.tickets import load_ticket
from tests.export.small import SPARSITY, save_ticket, score, some_inputs

pytestmark = pytest.mark.native

MOST_TOKENS, MOST_OBJECTS = 24, 100
"""The model's positions, and the regions that any program takes."""


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ticket(tmp_path_factory.mktemp("executorch"))


@pytest.fixture(scope="module")
def exported(ticket: Path) -> Artifact:
    return export(open_source(ticket), ticket.parent / "fp32", ExportOptions("executorch"))


@pytest.fixture(scope="module")
def session(ticket: Path, exported: Artifact) -> Session:
    return open_session(ticket.parent / "fp32", threads=1, runtime="executorch")


@pytest.mark.parametrize(
    ("rows", "tokens", "objects"), [(1, 1, 1), (1, 20, 36), (5, 9, 7), (3, MOST_TOKENS, MOST_OBJECTS)]
)
def test_the_program_answers_as_the_ticket_at_every_shape(ticket, session, rows, tokens, objects) -> None:
    inputs = some_inputs(rows, tokens, objects)
    expected = score(load_ticket(ticket).model, inputs).numpy()
    np.testing.assert_allclose(session.answer(inputs.numpy()), expected, atol=1e-5)


def test_longer_questions_and_other_inputs_are_refused(session) -> None:
    with pytest.raises(MeasureError, match=r"takes input_ids of at most 1 x 24.* but was given 1 x 25; give shorter"):
        session.answer(some_inputs(1, MOST_TOKENS + 1, 5).numpy())
    with pytest.raises(MeasureError, match=r"takes visual_feats of at most 1 x 100 x 12.* given 1 x 101 x 12"):
        session.answer(some_inputs(1, 9, MOST_OBJECTS + 1).numpy())
    feeds = some_inputs(1, 9, 5).numpy()
    with pytest.raises(MeasureError, match=r"takes visual_feats of"):
        session.answer({**feeds, "visual_feats": feeds["visual_feats"][..., :-1]})
    with pytest.raises(MeasureError, match=r"takes the inputs .* but was given"):
        session.answer({**feeds, "token_type_ids": feeds["input_ids"]})


def test_the_artifact_tells_its_bounds_and_what_was_proven(exported) -> None:
    assert exported.notes == ["one question at a time: 1 to 24 tokens over 1 to 100 regions"]
    assert set(exported.files) >= {"model.pte"}
    assert exported.parity.questions == 30
    assert exported.parity.max_abs_difference <= exported.parity.tolerance


def test_zeros_are_counted_in_the_program(ticket, exported) -> None:
    kept = load_ticket(ticket).mask.kept.values()
    zeros, elements = count_zeros(ticket.parent / "fp32")
    assert elements == sum(each.numel() for each in kept)
    assert zeros == round(SPARSITY * elements) == sum(int((~each).sum()) for each in kept)
    assert exported.prunable_zeros == zeros / elements


class Twice(nn.Module):
    """A layer that is used twice, two that are zeros alone, and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.empty, self.void, self.out = (nn.Linear(8, 8) for _ in range(4))
        for layer in (self.empty, self.void):
            nn.init.zeros_(layer.weight)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.void(self.empty(self.used(self.used(features)))))


def test_a_layer_that_is_used_twice_counts_once(tmp_path) -> None:
    exported = torch.export.export(Twice().eval(), (torch.ones(1, 8),))
    (tmp_path / "model.pte").write_bytes(lower(exported).buffer)
    assert count_zeros(tmp_path) == (2 * 64, 3 * 64)


def test_int8_of_a_pair_keeps_zeros_and_takes_two_rows_a_question(tmp_path) -> None:
    folder = save_ticket(tmp_path, images=2)
    artifact = export(open_source(folder), tmp_path / "int8", ExportOptions("executorch", "int8"))
    kept = load_ticket(folder).mask.kept.values()
    zeros, elements = count_zeros(tmp_path / "int8")
    assert elements == sum(each.numel() for each in kept)
    assert zeros >= sum(int((~each).sum()) for each in kept)
    assert artifact.parity.tolerance is None
    session, inputs = open_session(tmp_path / "int8", threads=1, runtime="executorch"), some_inputs(6, 9, 5)
    found, expected = session.answer(inputs.numpy()), score(load_ticket(folder).model, inputs).numpy()
    assert found.shape == (3, 7)
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    with pytest.raises(MeasureError, match="2 rows per question"):
        session.answer(some_inputs(3, 9, 5).numpy())


def test_a_program_of_one_shape_answers_smaller_questions_padded(ticket, exported, tmp_path) -> None:
    artifact = export(open_source(ticket), tmp_path / "fixed", ExportOptions("executorch", fixed=FixedShape(9, 5)))
    assert (artifact.fixed, artifact.positions) == (FixedShape(9, 5), 9)
    session = open_session(tmp_path / "fixed", threads=1, runtime="executorch")
    for tokens, objects in ((9, 5), (3, 2)):
        inputs = some_inputs(3, tokens, objects)
        expected = score(load_ticket(ticket).model, inputs).numpy()
        np.testing.assert_allclose(session.answer(inputs.numpy()), expected, atol=1e-5)
    with pytest.raises(MeasureError, match=r"takes at most 9 tokens and 5 regions"):
        session.answer(some_inputs(1, 10, 5).numpy())
    assert count_zeros(tmp_path / "fixed") == count_zeros(ticket.parent / "fp32")
