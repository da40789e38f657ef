"""Laws of recorded confidence: studies and exports record it for the scores they write; it can be measured later."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from lxcompress.confidence.record import find_scale, read_confidence
from lxcompress.filenames import ARTIFACT_FILE, RELIABILITY_FILE
from lxcompress.measure.reliability import list_unmeasured, measure_run
from lxcompress.records import Artifact, read_record
from lxcompress.rundir import RunDir, read_run
from tests.conftest import TOY_CELL


@pytest.fixture(scope="module")
def run(tiny_run: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Return a copy of the run of one ticket, with its ONNX file."""
    root = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("confidence") / "run"))
    shutil.copytree(tiny_onnx, root / "artifacts" / tiny_onnx.name)
    return RunDir(root)


def folders(run: RunDir) -> list[Path]:
    return [run.dense(0), run.root / "tickets" / TOY_CELL, *(path.parent for path in run.artifact_records())]


def test_the_recorded_credits_are_those_of_the_scores(run: RunDir) -> None:
    found = read_run(run.root)
    dense, ticket, artifact = (read_confidence(folder) for folder in folders(run))
    exported = read_record(folders(run)[2] / ARTIFACT_FILE, Artifact)
    accuracies = [found.dense[0].trained, found.results[TOY_CELL].retrained, exported.accuracy]
    for answers, score in zip((dense, ticket, artifact), accuracies, strict=True):
        assert answers is not None
        assert score is not None
        assert answers.credits.mean() == pytest.approx(score.accuracy)
        assert len(answers.credits) == score.questions
    assert ticket is not None
    assert artifact is not None
    assert np.allclose(ticket.confidences, artifact.confidences, atol=1e-4)  # the same model in another runtime
    assert RELIABILITY_FILE not in exported.files  # its size is that of earlier versions


def test_a_run_of_before_is_measured_and_gets_the_same_records(run: RunDir) -> None:
    before = {folder: read_confidence(folder) for folder in folders(run)}
    for folder in folders(run):
        (folder / RELIABILITY_FILE).unlink()
        assert find_scale(folder) is None
    assert list_unmeasured(run) == folders(run)
    assert measure_run(run.root, pytest.fail) == folders(run)
    assert measure_run(run.root, pytest.fail) == []
    for folder, old in before.items():
        new = read_confidence(folder)
        assert old is not None
        assert new is not None
        assert np.array_equal(new.labels, old.labels)
        assert np.allclose(new.confidences, old.confidences, atol=1e-5)


def test_a_model_that_cannot_be_loaded_is_named_and_the_others_are_measured(run: RunDir) -> None:
    _, ticket, artifact = folders(run)
    for folder in (ticket, artifact):
        (folder / RELIABILITY_FILE).unlink()
    (ticket / "vocab.txt").write_text("changed")
    remarks: list[str] = []
    assert measure_run(run.root, remarks.append) == [artifact]
    assert len(remarks) == 1
    assert str(ticket) in remarks[0]
