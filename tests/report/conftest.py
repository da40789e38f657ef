"""Run folders for the report's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from lxcompress.analysis.summary import RunSummary, summarise
from lxcompress.rundir import RunDir, read_run
from tests.report.synthetic import Accuracies, curve, recipe, write_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A finished study of three criteria, three sparsities and three seeds; 50 % low-magnitude keeps 99 %."""
    return write_run(tmp_path / "run", recipe())


@pytest.fixture
def part(tmp_path: Path) -> RunDir:
    """A study whose last seed lacks what is sparser than 60 %, and that has no high-magnitude cell at 90 %."""

    def score(cell) -> Accuracies | None:
        is_late = cell.seed == 2 and cell.sparsity > 0.6
        return None if is_late or cell.id.startswith("high-magnitude-weight-90") else curve(cell)

    return write_run(tmp_path / "part", recipe(), score=score)


@pytest.fixture
def summary(run: RunDir) -> RunSummary:
    return summarise(read_run(run.root))
