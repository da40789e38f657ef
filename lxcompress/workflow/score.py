"""Score predictions by the official measure of their data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lxcompress.data.vqa_score import TypeScore

ScoreKind = Literal["vqa", "gqa", "nlvr2", "nlvr", "scenes", "clevr"]


@dataclass(frozen=True)
class OfficialFiles:
    """What predictions are scored against: the official files of a data set, or the recipe of generated questions."""

    questions: Path | None = None
    annotations: Path | None = None
    kind: ScoreKind | None = None
    recipe: Path | None = None


def find_file_problem(files: OfficialFiles) -> str | None:
    """Return why these files do not go together, with what to give; None if they do."""
    kind = files.kind
    if files.recipe is not None:
        if files.questions is not None or files.annotations is not None:
            return "--recipe knows its questions; leave --questions and --annotations out"
        return None
    if kind in ("scenes", "clevr"):
        return f"--kind {kind} has no official files; give --recipe RECIPE"
    if files.questions is None:
        return "give the official questions as --questions, or --recipe for scenes and clevr"
    if kind in (None, "vqa") and files.annotations is None:
        return "VQA's answers are in a separate file; give --annotations, or another --kind"
    if kind not in (None, "vqa") and files.annotations is not None:
        return f"--kind {kind} has its answers in --questions; leave --annotations out"
    return None


@dataclass(frozen=True)
class ScoreReport:
    """The scores of predictions: shares 0-1, except `per_question`, which is in percent as the official files are."""

    overall: TypeScore
    groups: Mapping[str, Mapping[str, TypeScore]]
    """What questions are grouped by -> group -> score."""
    per_question: Mapping[int, float] | Mapping[str, float]
    consistency: TypeScore | None
    doubts: Sequence[str]


def score_file(predictions: Path, files: OfficialFiles, *, only_predicted: bool = False) -> ScoreReport:
    """Return the scores of the file `predictions`. Raises LxError, also for files that do not go together."""
    problem = find_file_problem(files)
    if problem:
        from lxcompress.errors import DataError

        raise DataError(problem)
    if files.recipe is not None:
        return _score_recipe(predictions, files.recipe, files.kind, only_predicted=only_predicted)
    assert files.questions is not None
    if files.kind in (None, "vqa"):
        assert files.annotations is not None
        return _score_vqa(predictions, files.questions, files.annotations, only_predicted=only_predicted)
    if files.kind == "gqa":
        return _score_gqa(predictions, files.questions, only_predicted=only_predicted)
    return _score_nlvr(predictions, files.questions, files.kind, only_predicted=only_predicted)


def _score_vqa(predictions: Path, questions: Path, annotations: Path, *, only_predicted: bool) -> ScoreReport:
    """Return the scores of VQA predictions, by the official VQA code (Antol et al. 2015)."""
    from lxcompress.data.vqa_score import (
        TypeScore,
        check_choices,
        check_known,
        keep_predicted,
        official_percent,
        read_annotations,
        read_predictions,
        read_questions,
        score_predictions,
    )

    where, among = str(predictions), str(annotations)
    given, asked, answered = read_predictions(predictions), read_questions(questions), read_annotations(annotations)
    counted = keep_predicted(answered, given, where=where) if only_predicted else answered
    check_known(counted, asked.ids, where=among, among=str(questions))
    score = score_predictions(given, counted, where=where, among=among)
    check_choices(given, asked, where=where)
    doubts = _partial(len(counted), len(answered))
    if score.indistinct:
        doubts.append(
            f"{score.indistinct} of {len(counted)} questions have answers without distinct answer_ids: the official "
            "code leaves each answer out together with its equals, which lowers the accuracy"
        )
    return ScoreReport(
        overall=TypeScore(score.overall, len(counted)),
        groups={"answer type": score.per_answer_type, "question type": score.per_question_type},
        per_question={question: official_percent(share) for question, share in score.per_question.items()},
        consistency=None,
        doubts=doubts,
    )


def _score_gqa(predictions: Path, questions: Path, *, only_predicted: bool) -> ScoreReport:
    """Return the scores of GQA predictions, by the official GQA code (Hudson & Manning 2019)."""
    from lxcompress.data.gqa_score import read_gqa_predictions, read_gqa_questions, score_gqa
    from lxcompress.data.vqa_score import TypeScore, keep_predicted, official_percent

    where = str(predictions)
    given, asked = read_gqa_predictions(predictions), read_gqa_questions(questions)
    counted = keep_predicted(asked, given, where=where) if only_predicted else asked
    score = score_gqa(given, counted, where=where)
    return ScoreReport(
        overall=TypeScore(score.overall, len(counted)),
        groups={
            "answer form": score.per_answer_form,
            "structural type": score.per_structural_type,
            "semantic type": score.per_semantic_type,
        },
        per_question={question: official_percent(share) for question, share in score.per_question.items()},
        consistency=None,
        doubts=_partial(len(counted), len(asked)) + _unused(len(given), len(counted)),
    )


def _score_nlvr(predictions: Path, questions: Path, kind: str, *, only_predicted: bool) -> ScoreReport:
    """Return the scores of NLVR or NLVR2 predictions: accuracy and consistency (Suhr et al. 2019)."""
    from lxcompress.data.nlvr2_score import SENTENCE, read_nlvr_labels, read_nlvr_predictions, score_nlvr
    from lxcompress.data.vqa_score import TypeScore, check_known, keep_predicted, official_percent

    where = str(predictions)
    given, asked = read_nlvr_predictions(predictions), read_nlvr_labels(questions)
    counted = keep_predicted(asked, given, where=where) if only_predicted else asked
    if kind == "nlvr":  # the script of NLVR v1 refuses predictions of other examples; that of NLVR2 ignores them
        check_known(given, asked, where=where, among=str(questions))
    score = score_nlvr(given, counted, sentence=SENTENCE[kind], where=where)
    return ScoreReport(
        overall=TypeScore(score.overall, len(counted)),
        groups={},
        per_question={example: official_percent(share) for example, share in score.per_question.items()},
        consistency=TypeScore(score.consistency, score.sentences),
        doubts=_partial(len(counted), len(asked)) + _unused(len(given), len(counted)),
    )


def _score_recipe(predictions: Path, recipe: Path, kind: ScoreKind | None, *, only_predicted: bool) -> ScoreReport:
    """Return the scores of predictions for the generated validation questions of `recipe`."""
    from lxcompress.data.predictions import score_numbered
    from lxcompress.errors import RecipeError
    from lxcompress.recipe import load_recipe

    data = load_recipe(recipe).data
    if data.kind not in ("scenes", "clevr"):
        raise RecipeError(
            f"{recipe}: data.kind={data.kind} has official files; give its questions as --questions "
            f"with --kind {data.kind}, and leave --recipe out"
        )
    if kind not in (None, data.kind):
        raise RecipeError(f"{recipe}: has data.kind={data.kind}, and --kind says {kind}; leave --kind out")
    from lxcompress.data.vqa_score import official_percent

    overall, by_type, per_question, asked = score_numbered(predictions, data, only_predicted=only_predicted)
    return ScoreReport(
        overall=overall,
        groups={"answer type": by_type},
        per_question={number: official_percent(share) for number, share in per_question.items()},
        consistency=None,
        doubts=_partial(overall.questions, asked),
    )


def _partial(counted: int, asked: int) -> list[str]:
    """Return the warning that only some of the questions are scored."""
    if counted == asked:
        return []
    return [f"only {counted} of {asked} questions have a prediction and are scored; this is not the official score"]


def _unused(given: int, counted: int) -> list[str]:
    """Return the warning that some of the predictions are not scored."""
    if given == counted:
        return []
    return [f"{given - counted} of {given} predictions are for other questions and are ignored"]
