"""Score predictions by the official measure of their data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lxcompress.catalog.data_kinds import data_kind_names, find_data_kind
from lxcompress.catalog.extensions import resolve
from lxcompress.data.scoring import ScoreFiles, ScoreReport

__all__ = ["OfficialFiles", "ScoreReport", "find_file_problem", "score_file"]

USUAL_KIND = "vqa"


@dataclass(frozen=True)
class OfficialFiles:
    """The files to score predictions with: the official files of a data set, or the recipe of generated questions.

    `kind` is the kind of data set; None is VQA. `pairs` is VQA v2's list of complementary pairs.
    """

    questions: Path | None = None
    annotations: Path | None = None
    kind: str | None = None
    recipe: Path | None = None
    pairs: Path | None = None


def find_file_problem(files: OfficialFiles) -> str | None:
    """Return why these files cannot be used together, and what to give instead; None if they can."""
    kind = files.kind or USUAL_KIND
    if kind not in data_kind_names():
        return f"--kind {kind} is unknown; give one of {', '.join(data_kind_names())}"
    if files.recipe is not None:
        if files.questions is not None or files.annotations is not None or files.pairs is not None:
            return "--recipe knows its questions; leave --questions, --annotations and --pairs out"
        return None
    spec = find_data_kind(kind)
    if files.pairs is not None and kind != USUAL_KIND:
        return f"--kind {kind} has no complementary pairs; leave --pairs out"
    if spec.score is None:
        return f"--kind {kind} has no official files; give --recipe RECIPE"
    if files.questions is None:
        return "give the official questions as --questions, or --recipe for scenes and clevr"
    if spec.has_annotations and files.annotations is None:
        return f"{kind.upper()}'s answers are in a separate file; give --annotations, or another --kind"
    if not spec.has_annotations and files.annotations is not None:
        return f"--kind {kind} has its answers in --questions; leave --annotations out"
    return None


def score_file(predictions: Path, files: OfficialFiles, *, only_predicted: bool = False) -> ScoreReport:
    """Return the scores of a file of predictions. Raises LxError, also for files that cannot be used together.

    With `only_predicted`, only questions that have a prediction are scored.
    """
    problem = find_file_problem(files)
    if problem:
        from lxcompress.errors import DataError

        raise DataError(problem)
    if files.recipe is not None:
        return _score_recipe(predictions, files.recipe, files.kind, only_predicted=only_predicted)
    assert files.questions is not None
    spec = find_data_kind(files.kind or USUAL_KIND)
    assert spec.score is not None
    report: ScoreReport = resolve(spec.score)(
        ScoreFiles(predictions, files.questions, files.annotations, files.pairs, only_predicted)
    )
    return report


def _score_recipe(predictions: Path, recipe: Path, kind: str | None, *, only_predicted: bool) -> ScoreReport:
    """Return the scores of predictions for the validation questions of `recipe`.

    These are generated questions, so no official file contains them.
    """
    from lxcompress.data.predictions import score_numbered
    from lxcompress.errors import RecipeError
    from lxcompress.recipe import load_recipe

    data = load_recipe(recipe).data
    if find_data_kind(data.kind).score is not None:
        raise RecipeError(
            f"{recipe}: data.kind={data.kind} has official files; give its questions as --questions "
            f"with --kind {data.kind}, and leave --recipe out"
        )
    if kind not in (None, data.kind):
        raise RecipeError(f"{recipe}: has data.kind={data.kind}, and --kind says {kind}; leave --kind out")
    return score_numbered(predictions, data, only_predicted=only_predicted)
