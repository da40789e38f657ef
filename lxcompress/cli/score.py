"""`lxcompress score`: score predictions by the official measure of their data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lxcompress.catalog.data_kinds import DATA_KINDS

if TYPE_CHECKING:
    from rich.table import Table

    from lxcompress.workflow.score import ScoreReport

KINDS = ", ".join(DATA_KINDS)


def score_cli(
    predictions: Annotated[Path, typer.Argument(help="A model's answers, in the data set's submission format.")],
    questions: Annotated[
        Path | None,
        typer.Option("--questions", help="Official questions (JSON); for NLVR, NLVR2 and VizWiz, the examples."),
    ] = None,
    annotations: Annotated[Path | None, typer.Option("--annotations", help="VQA only: official annotations.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help=f"The kind of data set: {KINDS}, or an added one.  [default: vqa]")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="scenes and clevr only: the recipe whose validation questions were answered."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="VQA v2 only: the official list of complementary pairs (JSON).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON, in percent.")] = False,
    per_question: Annotated[
        Path | None, typer.Option("--per-question", help="File to write the accuracy of each question to, in percent.")
    ] = None,
    only_predicted: Annotated[
        bool, typer.Option("--only-predicted", help="Score only the questions that have a prediction.")
    ] = False,
) -> None:
    """Score predictions exactly as the official evaluation code does.

    \b
    Example: lxcompress score predictions.json --questions questions.json --annotations annotations.json
    Or:      lxcompress score predictions.json --recipe quickstart
    """
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import out, remarks
    from lxcompress.rundir import write_text
    from lxcompress.workflow.score import OfficialFiles, find_file_problem, score_file
    from lxcompress.writing import check_out

    files = OfficialFiles(questions, annotations, kind, recipe, pairs)
    problem = find_file_problem(files)
    if problem:
        raise typer.BadParameter(problem)
    if per_question is not None:
        check_out(
            per_question, [predictions, questions, annotations, recipe, pairs], kind="file", option="--per-question"
        )
    with working(f"scoring {predictions}"):
        report = score_file(predictions, files, only_predicted=only_predicted)
    for doubt in report.doubts:
        remarks.print(f"warning: {doubt}", style="yellow", markup=False)
    if per_question is not None:
        import json

        write_text(per_question, json.dumps(report.per_question, indent=0) + "\n")
    if as_json:
        from lxcompress.output import json_text

        typer.echo(json_text(_as_json(report)))
        return
    out.print(_table(report))
    if per_question is not None:
        out.print(str(per_question), markup=False, soft_wrap=True)


def _as_json(report: ScoreReport) -> dict[str, Any]:
    """Return the scores in percent as plain JSON values, without rounding; the official code rounds to two digits."""
    document: dict[str, Any] = {"overall": 100 * report.overall.accuracy}
    if report.consistency is not None:
        document |= {"consistency": 100 * report.consistency.accuracy, "sentences": report.consistency.questions}
    for name, score in report.measures.items():
        document[name.replace(" ", "_")] = 100 * score.accuracy
    for name, group in report.groups.items():
        document[f"per_{name.replace(' ', '_')}"] = {kind: 100 * score.accuracy for kind, score in group.items()}
    return document | {"questions": report.overall.questions}


def _table(report: ScoreReport) -> Table:
    """Return a table of the scores and their numbers of questions: overall, and in each group of questions."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from lxcompress.units import percent

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("accuracy %", justify="right", no_wrap=True)
    table.add_column("questions", justify="right", no_wrap=True)
    table.add_row("overall", percent(report.overall.accuracy), f"{report.overall.questions:,}", style="bold")
    if report.consistency is not None:
        sentences = f"{report.consistency.questions:,} sentences"
        table.add_row("consistency", percent(report.consistency.accuracy), sentences, style="bold")
    for name, score in report.measures.items():
        table.add_row(name, percent(score.accuracy), f"{score.questions:,}", style="bold")
    for name, group in report.groups.items():
        if group:
            table.add_section()
            table.add_row(f"per {name}", style="dim")
        for kind, score in group.items():
            table.add_row(Text(f"  {kind}"), percent(score.accuracy), f"{score.questions:,}")
        untyped = report.overall.questions - sum(score.questions for score in group.values())
        if group and untyped:
            table.add_row(f"  no {name}", "", f"{untyped:,}", style="dim")
    return table
