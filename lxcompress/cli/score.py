"""`lxcompress score`: what predictions are worth by the official measure of their data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.data.vqa_score import TypeScore

Kind = Literal["vqa", "gqa", "nlvr2", "nlvr", "scenes", "clevr"]


def score_cli(
    predictions: Annotated[Path, typer.Argument(help="What a model answered, in the data set's submission format.")],
    questions: Annotated[
        Path | None, typer.Option("--questions", help="The official questions JSON; NLVR's and NLVR2's examples.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="VQA's official annotations JSON; the others have none.")
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="The data set whose measure counts.  [default: vqa]")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="For scenes and clevr: the recipe whose validation questions were predicted."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON, in percent.")] = False,
    per_question: Annotated[
        Path | None, typer.Option("--per-question", help="File to write each question's accuracy to, in percent.")
    ] = None,
    only_predicted: Annotated[
        bool, typer.Option("--only-predicted", help="Score the questions with a prediction, not all.")
    ] = False,
) -> None:
    """Score predictions as the official evaluation code does, to the digit.

    \b
    Example: lxcompress score predictions.json --questions questions.json --annotations annotations.json
    Or:      lxcompress score predictions.json --recipe quickstart
    """
    _check_options(kind, questions, annotations, recipe)
    if per_question is not None:
        from lxcompress.writing import check_out

        check_out(per_question, [predictions, questions, annotations, recipe], kind="file", option="--per-question")

    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import out, remarks
    from lxcompress.rundir import write_text

    with working(f"scoring {predictions}"):
        if recipe is not None:
            scored = _score_recipe(predictions, recipe, kind, only_predicted=only_predicted)
        elif kind in (None, "vqa"):
            scored = _score_vqa(predictions, questions, annotations, only_predicted=only_predicted)
        elif kind == "gqa":
            scored = _score_gqa(predictions, questions, only_predicted=only_predicted)
        else:
            scored = _score_nlvr(predictions, questions, kind, only_predicted=only_predicted)
    for doubt in scored.doubts:
        remarks.print(f"doubt: {doubt}", style="yellow", markup=False)
    if per_question is not None:
        import json

        write_text(per_question, json.dumps(scored.per_question, indent=0) + "\n")
    if as_json:
        from lxcompress.output import json_text

        typer.echo(json_text(_as_json(scored)))
        return
    out.print(_table(scored))
    if per_question is not None:
        out.print(str(per_question), markup=False, soft_wrap=True)


def _check_options(kind: Kind | None, questions: Path | None, annotations: Path | None, recipe: Path | None) -> None:
    """Raises BadParameter for options that do not go together."""
    if recipe is not None:
        if questions is not None or annotations is not None:
            raise typer.BadParameter("--recipe knows its questions; leave --questions and --annotations out")
        return
    if kind in ("scenes", "clevr"):
        raise typer.BadParameter(f"--kind {kind} has no official files of questions; give --recipe RECIPE")
    if questions is None:
        raise typer.BadParameter("give the official questions as --questions, or --recipe for scenes and clevr")
    if kind in (None, "vqa") and annotations is None:
        raise typer.BadParameter("VQA's answers are in a file of their own; give --annotations, or another --kind")
    if kind not in (None, "vqa") and annotations is not None:
        raise typer.BadParameter(f"--kind {kind} has its answers in --questions; leave --annotations out")


@dataclass(frozen=True)
class Scored:
    """What the screen and the JSON tell of a score; accuracies 0-1, but each question's in percent, as officially."""

    overall: TypeScore
    groups: Mapping[str, Mapping[str, TypeScore]]
    """what questions are grouped by -> group -> score"""
    per_question: Mapping[int, float] | Mapping[str, float]
    consistency: TypeScore | None
    doubts: Sequence[str]


def _score_vqa(predictions: Path, questions: Path, annotations: Path, *, only_predicted: bool) -> Scored:
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
    said, asked, answered = read_predictions(predictions), read_questions(questions), read_annotations(annotations)
    counted = keep_predicted(answered, said, where=where) if only_predicted else answered
    check_known(counted, asked.ids, where=among, among=str(questions))
    score = score_predictions(said, counted, where=where, among=among)
    check_choices(said, asked, where=where)
    doubts = _partial(len(counted), len(answered))
    if score.indistinct:
        doubts.append(
            f"{score.indistinct} of {len(counted)} questions have answers without an answer_id of their own: as in the "
            "official code, equal ones leave each other out, which lowers the accuracy"
        )
    return Scored(
        overall=TypeScore(score.overall, len(counted)),
        groups={"answer type": score.per_answer_type, "question type": score.per_question_type},
        per_question={question: official_percent(each) for question, each in score.per_question.items()},
        consistency=None,
        doubts=doubts,
    )


def _score_gqa(predictions: Path, questions: Path, *, only_predicted: bool) -> Scored:
    from lxcompress.data.gqa_score import read_gqa_predictions, read_gqa_questions, score_gqa
    from lxcompress.data.vqa_score import TypeScore, keep_predicted, official_percent

    where = str(predictions)
    said, asked = read_gqa_predictions(predictions), read_gqa_questions(questions)
    counted = keep_predicted(asked, said, where=where) if only_predicted else asked
    score = score_gqa(said, counted, where=where)
    return Scored(
        overall=TypeScore(score.overall, len(counted)),
        groups={
            "answer form": score.per_answer_form,
            "structural type": score.per_structural_type,
            "semantic type": score.per_semantic_type,
        },
        per_question={question: official_percent(each) for question, each in score.per_question.items()},
        consistency=None,
        doubts=_partial(len(counted), len(asked)) + _unused(len(said), len(counted)),
    )


def _score_nlvr(predictions: Path, questions: Path, kind: str, *, only_predicted: bool) -> Scored:
    from lxcompress.data.nlvr2_score import SENTENCE, read_nlvr_labels, read_nlvr_predictions, score_nlvr
    from lxcompress.data.vqa_score import TypeScore, check_known, keep_predicted, official_percent

    where = str(predictions)
    said, asked = read_nlvr_predictions(predictions), read_nlvr_labels(questions)
    counted = keep_predicted(asked, said, where=where) if only_predicted else asked
    if kind == "nlvr":  # v1's script refuses predictions of other examples; NLVR2's passes over them
        check_known(said, asked, where=where, among=str(questions))
    score = score_nlvr(said, counted, sentence=SENTENCE[kind], where=where)
    return Scored(
        overall=TypeScore(score.overall, len(counted)),
        groups={},
        per_question={example: official_percent(each) for example, each in score.per_question.items()},
        consistency=TypeScore(score.consistency, score.sentences),
        doubts=_partial(len(counted), len(asked)) + _unused(len(said), len(counted)),
    )


def _score_recipe(predictions: Path, recipe: Path, kind: Kind | None, *, only_predicted: bool) -> Scored:
    from lxcompress.data.predictions import score_numbered
    from lxcompress.errors import RecipeError
    from lxcompress.recipe import load_recipe

    data = load_recipe(recipe).data
    if data.kind not in ("scenes", "clevr"):
        raise RecipeError(
            f"{recipe}: data.kind={data.kind} has official files of questions; give these as --questions "
            f"with --kind {data.kind}, and leave --recipe out"
        )
    if kind not in (None, data.kind):
        raise RecipeError(f"{recipe}: has data.kind={data.kind}, and --kind says {kind}; leave --kind out")
    from lxcompress.data.vqa_score import official_percent

    overall, by_type, per_question, asked = score_numbered(predictions, data, only_predicted=only_predicted)
    return Scored(
        overall=overall,
        groups={"answer type": by_type},
        per_question={number: official_percent(each) for number, each in per_question.items()},
        consistency=None,
        doubts=_partial(overall.questions, asked),
    )


def _partial(counted: int, asked: int) -> list[str]:
    if counted == asked:
        return []
    return [f"only the {counted} of {asked} questions that are predicted are scored: no official score"]


def _unused(said: int, counted: int) -> list[str]:
    if said == counted:
        return []
    return [f"{said - counted} of {said} predictions are of questions that do not count"]


def _as_json(scored: Scored) -> dict[str, Any]:
    """Percentages that are not rounded: official means are these, rounded to two digits."""
    document: dict[str, Any] = {"overall": 100 * scored.overall.accuracy}
    if scored.consistency is not None:
        document |= {"consistency": 100 * scored.consistency.accuracy, "sentences": scored.consistency.questions}
    for name, group in scored.groups.items():
        document[f"per_{name.replace(' ', '_')}"] = {each: 100 * score.accuracy for each, score in group.items()}
    return document | {"questions": scored.overall.questions}


def _table(scored: Scored) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from lxcompress.units import percent

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("accuracy %", justify="right", no_wrap=True)
    table.add_column("questions", justify="right", no_wrap=True)
    table.add_row("overall", percent(scored.overall.accuracy), f"{scored.overall.questions:,}", style="bold")
    if scored.consistency is not None:
        sentences = f"{scored.consistency.questions:,} sentences"
        table.add_row("consistency", percent(scored.consistency.accuracy), sentences, style="bold")
    for name, group in scored.groups.items():
        if group:
            table.add_section()
            table.add_row(f"per {name}", style="dim")
        for each, score in group.items():
            table.add_row(Text(f"  {each}"), percent(score.accuracy), f"{score.questions:,}")
        untyped = scored.overall.questions - sum(score.questions for score in group.values())
        if group and untyped:
            table.add_row(f"  no {name}", "", f"{untyped:,}", style="dim")
    return table
