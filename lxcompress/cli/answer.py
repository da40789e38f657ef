"""`lxcompress answer`: answer questions about a photograph, with probabilities and times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lxcompress.catalog.extractors import EXTRACTOR_NAMES

if TYPE_CHECKING:
    from lxcompress.workflow.answer import PhotoAnswers, QuestionAnswer

NOT_SURE = "I am not sure"


def answer_cli(
    photo: Annotated[Path, typer.Argument(help="A JPEG, PNG or WebP file.")],
    questions: Annotated[list[str] | None, typer.Argument(metavar="QUESTION...", help="Questions in quotes.")] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="A ticket, an artifact, a model, or a run folder, whose picked file answers."),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            "--extractor",
            help=f"{', '.join(EXTRACTOR_NAMES)}, or an exported extractor; by default the one of the model's training.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="The weights of the extractor, if it comes without any."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Answers shown for each question.")] = 5,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help=f"Say '{NOT_SURE}' below this probability; not --risk's."),
    ] = None,
    risk: Annotated[
        float, typer.Option("--risk", help="0.01, 0.05 or 0.1: the share of wrong answers that the study accepted.")
    ] = 0.05,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the extractor and of the model.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers and the times as JSON.")] = False,
) -> None:
    """Answer questions about one photograph; its features are extracted once.

    \b
    Example:
      lxcompress answer kitchen.jpg "what is on the table?" --model runs/photos
      lxcompress answer kitchen.jpg "is it a cat?" "how many?" --model TICKET
    """
    from lxcompress.cli.progress import working
    from lxcompress.cli.screen import json_document
    from lxcompress.workflow.answer import answer_photo
    from lxcompress.workflow.answer_request import AnswerOptions, check_request

    options = AnswerOptions(
        extractor=extractor, top=top, threshold=threshold, threads=threads, weights=weights, risk=risk
    )
    check_request(photo, questions or [], options)
    if model is None:
        raise typer.BadParameter("is missing; give a ticket, an artifact or a run folder", param_hint="--model")
    with json_document(wanted=as_json) as emit, working(f"looking at {photo.name}"):
        found = answer_photo(photo, questions or [], model, options)
        emit(_document(found))
    if not as_json:
        _show(found)


def _document(found: PhotoAnswers) -> dict[str, Any]:
    """Return the JSON document of the answers; probabilities are 0-1."""
    return {
        "version": 1,
        "photo": str(found.photo),
        "model": str(found.model),
        "runtime": found.runtime,
        "extractor": found.extractor,
        "threshold": found.threshold,
        "photo_ms": found.photo_ms,
        "extractor_ms": found.extractor_ms,
        "image_ms": found.image_ms,
        "questions": [
            {
                "question": answered.question,
                "is_sure": answered.is_sure,
                "model_ms": answered.model_ms,
                "answers": [
                    {"answer": possible.text, "probability": possible.probability} for possible in answered.answers
                ],
            }
            for answered in found.answers
        ],
        "warnings": list(found.warnings),
    }


def _show(found: PhotoAnswers) -> None:
    """Show the answers to each question, the times, and the warnings."""
    from lxcompress.cli.screen import out, warnings

    for index, answered in enumerate(found.answers):
        if index:
            out.print()
        _show_question(answered, found.threshold)
    out.print()
    for line in _time_lines(found):
        out.print(line, markup=False, style="dim")
    out.print(f"{'':<12}{found.model}", markup=False, style="dim", soft_wrap=True)
    for warning in found.warnings:
        warnings.print(f"warning: {warning}", markup=False, style="yellow")


def _show_question(answered: QuestionAnswer, threshold: float | None) -> None:
    """Show one question, and a table of its answers."""
    from rich.table import Table
    from rich.text import Text

    from lxcompress.cli.screen import out
    from lxcompress.units import percent

    out.print(answered.question, style="bold", markup=False)
    if answered.is_sure is False:
        best = percent(answered.answers[0].probability, 1)
        limit = f"below {percent(threshold, 1)} %" if threshold is not None else "and none was sure enough in its study"
        out.print(f"{NOT_SURE} (best answer {best} %, {limit})", style="yellow", markup=False)
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for number, possible in enumerate(answered.answers):
        style = "bold green" if number == 0 and answered.is_sure is not False else ""
        table.add_row(Text(f"  {possible.text}"), f"{percent(possible.probability, 1)} %", style=style)
    out.print(table)


def _time_lines(found: PhotoAnswers) -> list[str]:
    """Return the time of each step as lines of text."""
    from lxcompress.units import significant

    times = ", ".join(significant(answered.model_ms) for answered in found.answers)
    seen = [] if found.image_ms is None else [f"{significant(found.image_ms)} ms for the photograph"]
    asked = f"{times} ms {'a question ' if found.answers[1:] else ''}({found.runtime})"
    steps = {
        "photograph": [f"{significant(found.photo_ms)} ms to decode and resize"],
        "extractor": [f"{significant(found.extractor_ms)} ms ({found.extractor})"],
        "model": [*seen, asked],
    }
    return [f"{'' if index else step:<12}{words}" for step, lines in steps.items() for index, words in enumerate(lines)]
