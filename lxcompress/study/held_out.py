"""Score the finished models of a study on a test split that its recipe got later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lxcompress.errors import LxError
from lxcompress.filenames import DENSE_FILE
from lxcompress.models.checkpoints import load_model
from lxcompress.recipe import Recipe
from lxcompress.records import Dense, Result, is_whole, read_record
from lxcompress.rundir import REDO, RunDir, write_record
from lxcompress.study.context import StudyContext, score_test
from lxcompress.study.reporter import StudyReporter
from lxcompress.training.device import move


def list_untested(recipe: Recipe, run: RunDir) -> list[Path]:
    """Return the records of finished runs, twins included, that have no test score, if the recipe has a test split."""
    if getattr(recipe.data, "test", None) is None:
        return []
    dense = sorted(run.root.glob(f"seeds/*/dense/{DENSE_FILE}"))
    paths = [*dense, *run.result_records(), *run.twins.result_records()]
    return [path for path in paths if is_whole(path) and _read(path).test is None]


def score_untested(context: StudyContext, records: Sequence[Path], progress: StudyReporter) -> None:
    """Score the models of `records` on the test split; write the scores into the records.

    A model that cannot be loaded is reported, and its record stays as it is.
    """
    for path in records:
        progress.prepare(f"scoring {path.parent.name} on the test split")
        try:
            model = load_model(path.parent)
        except LxError as error:
            progress.remark(f"{path}: gets no test score, because its model cannot be loaded: {error}")
            continue
        move(model.module, context.device)
        write_record(path, _read(path).model_copy(update={"test": score_test(context, model)}))


def _read(path: Path) -> Dense | Result:
    """Return the record of a dense run or of a cell. Raises RunError for a damaged record."""
    if path.name == DENSE_FILE:
        return read_record(path, Dense, remedy=REDO)
    return read_record(path, Result, remedy=REDO)
