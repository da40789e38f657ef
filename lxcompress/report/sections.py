"""The sections of text and tables: the header, the methods, the groups of runs, and how the study was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from markupsafe import Markup

from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.choice import Choice
from lxcompress.analysis.groups import GroupKey, SeedGroup
from lxcompress.analysis.held_out import held_out_words
from lxcompress.analysis.methods import NOTHING, MethodRow, MethodTable, off_target, tabulate
from lxcompress.analysis.protocol import fault_lines, has_tickets, protocol_name, protocol_title
from lxcompress.analysis.published import compare
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.verdict import compared_words, headlines
from lxcompress.analysis.words import kept_words, machine_line, numbered, points
from lxcompress.recipe import Method, dump_recipe
from lxcompress.records import Dense, Floors, Result
from lxcompress.report.chart.keys import level_key, method_key
from lxcompress.report.methods import seeds_words, steps_words, table_note, time_words
from lxcompress.report.page import (
    Figure,
    FloorRow,
    GroupSection,
    Header,
    MethodCell,
    MethodSection,
    MethodTableRow,
    RunSection,
)
from lxcompress.units import duration, percent, short_percent

LONG = 40
"""The table of groups is folded if it has more rows; the methods table shows the same in fewer rows."""
FLOOR_WORDS: Mapping[str, str] = {
    "majority": "always the most frequent answer",
    "majority per type": "the most frequent answer of each answer type, which is given",
    "majority per question type": "the most frequent answer of each kind of question",
    "question-only": "a linear model of the question's words, without the image",
}


def header(summary: RunSummary, choice: Choice) -> Header:
    """Return the head of the page: the verdict, the picked ticket with its figures, and the warnings."""
    picked = choice.picked
    compared, command = compared_words(picked) if picked else ("", None)
    return Header(
        name=summary.recipe.name,
        headlines=headlines(summary, choice),
        next_command=choice.equal.command if choice.equal else None,
        has_tickets=has_tickets(summary.recipe),
        protocol=protocol_title(summary.recipe),
        faults=fault_lines(summary.recipe),
        rule=choice.rule.words,
        picked=picked,
        compared=compared,
        compared_command=command,
        figures=_figures(choice),
        held_out=held_out_words(choice.held_out),
        held_out_rows=choice.held_out,
        missing=_missing(summary),
        warnings=choice.warnings,
    )


def method_section(summary: RunSummary, picked: GroupKey | None) -> MethodSection:
    """Return the section with the methods table, and the table with the sizes of smaller models."""
    table = tabulate(summary)
    return MethodSection(
        note=table_note(table),
        targets=[short_percent(target) for target in table.pruned_targets],
        sections=[(words, [_method_row(table, row, picked) for row in rows]) for words, rows in table.sections],
        sized_targets=[short_percent(target) for target in table.sized_targets],
        sized=[_size_row(table, row) for row in table.sized],
    )


def group_section(summary: RunSummary, choice: Choice, slots: Mapping[Method, int]) -> GroupSection:
    """Return the section with the numbers of every group; `slots` is {drawn method: index of its look}."""
    return GroupSection(
        rows=[(_group_look(group, slots), group) for group in summary.groups],
        dense=summary.dense,
        floors=_floor_rows(summary.floors),
        rejected=choice.rejected if has_tickets(summary.recipe) else (),
        picked=choice.picked.group.key if choice.picked else None,
        published=compare(summary),
        is_long=len(summary.groups) > LONG,
        has_regrown=any(group.regrown.mean for group in summary.groups),
    )


def run_section(summary: RunSummary) -> RunSection:
    """Return the section on how the study was run."""
    runs: list[Dense | Result] = [*summary.dense_runs, *summary.results]
    recipe = summary.recipe
    devices = sorted({f"{run.device} ({run.precision})" for run in runs})
    facts = [
        ("Machine", machine_line(summary.machine)),
        ("Python", summary.machine.python),
        ("Device", ", ".join(devices) or "nothing has run yet"),
        ("Data", f"{recipe.data.kind}, model {recipe.model.start}, scope {recipe.prune.scope}"),
        ("Protocol", f"{protocol_name(recipe)}: {', '.join(recipe.faults)}" if recipe.faults else "corrected"),
        ("Seeds", ", ".join(map(str, recipe.seeds))),
    ]
    if summary.dense_runs:
        questions = summary.dense_runs[0].trained.questions
        facts.append(("Accuracy", f"VQA score over {questions:,} validation questions"))
    if summary.results:
        weights = summary.results[0].sparsity
        counted = f"{weights.prunable:,} prunable, {weights.live:,} that the answer depends on, {weights.all:,} in all"
        facts.append(("Weights", f"{counted}; sparsity is the share of prunable weights removed"))
    facts += _durations(summary.dense_runs, summary.results)
    others = {machine_line(run.machine) for run in runs} - {machine_line(summary.machine)}
    facts += [("Also ran on", other) for other in sorted(others)]
    return RunSection(facts, summary.machine.packages, dump_recipe(recipe))


def _figures(choice: Choice) -> list[Figure]:
    """Return the figures of the pick in large type; none if nothing is picked."""
    picked = choice.picked
    if picked is None:
        return []
    group = picked.group
    assert group.paired is not None
    assert group.retained is not None
    paired = "points against dense" + (", mean of paired seeds" if len(group.seeds) > 1 else " of the same seed")
    figures = [
        Figure(f"{percent(group.retained, 1)} %", "of dense accuracy kept"),
        Figure(points(group.paired.mean), paired),
        Figure(
            f"{percent(group.achieved.mean, 1)} %", f"of prunable weights removed ({percent(group.of_all, 1)} % of all)"
        ),
    ]
    return figures + (_file_figures(picked.exported) if picked.exported is not None else [])


def _file_figures(exported: ExportedArtifact) -> list[Figure]:
    """Return the figures of the file to ship, which may be less accurate than its ticket."""
    artifact, change = exported.artifact, exported.accuracy_change
    figures = [Figure(f"{exported.size_mb:.3g} MB", f"on disk as {artifact.format} {artifact.precision}")]
    if exported.accuracy is not None:
        against = f", {points(change)} against its model" if change is not None else ""
        figures.insert(0, Figure(f"{percent(exported.accuracy)} %", f"accuracy of the exported file{against}"))
    if exported.latency_p90_ms is not None:
        figures.append(Figure(f"{exported.latency_p90_ms:.3g} ms", "p90 latency of one answer"))
    return figures


def _missing(summary: RunSummary) -> str | None:
    """Return a sentence on how much of the study is finished; None if all of it is."""
    if summary.is_complete:
        return None
    runs = f"{len(summary.results)} of {summary.cells_total} runs are finished"
    dense = f"; dense {numbered('seed', summary.dense_missing)} not finished" if summary.dense_missing else ""
    return f"This study is not complete: {runs}{dense}. A run is one method at one sparsity with one seed."


def _method_row(table: MethodTable, row: MethodRow, picked: GroupKey | None) -> MethodTableRow:
    # An unpruned control has one number, which holds for every sparsity.
    """Return the row of a method in the methods table."""
    is_unpruned = row.method.is_unpruned
    targets = (0.0,) if is_unpruned else table.pruned_targets
    return MethodTableRow(
        name=row.name,
        words=row.words,
        cells=[_method_cell(table, row.groups.get(target), picked) for target in targets],
        is_unpruned=is_unpruned,
        time=time_words(row),
        steps=steps_words(row.steps),
    )


def _method_cell(table: MethodTable, group: SeedGroup | None, picked: GroupKey | None) -> MethodCell:
    """Return the cell of a group: the share of dense accuracy that it keeps, and notes."""
    words = kept_words(group) if group else None
    if group is None or words is None:
        return MethodCell(NOTHING)
    off = off_target(group)
    notes = [
        f"at {off}" if off else None,
        seeds_words(group) if group.missing else None,
        "the pick" if group.key == picked else None,
    ]
    looks = {"best": group.key in table.best, "pick": group.key == picked, "open": bool(group.missing)}
    look = " ".join(name for name, has in looks.items() if has)
    return MethodCell(words, look, [note for note in notes if note])


def _size_row(table: MethodTable, row: MethodRow) -> tuple[str, list[list[str]]]:
    """Return the name of a method, and the sizes of its models at each sparsity."""
    groups = [row.groups.get(target) for target in table.sized_targets]
    cells = [[words(group) for words in table.quantities.values()] if group else [NOTHING] for group in groups]
    return row.name, cells


def _group_look(group: SeedGroup, slots: Mapping[Method, int]) -> Markup:
    """Return a sample of the line that the charts draw for a group; empty if they do not draw it."""
    method = group.key.method
    if method in slots:
        return method_key(slots[method])
    kind = {"dense-longer": "longer", "small-dense": "baseline"}.get(method.control or "")
    return level_key(kind) if kind else Markup("")


def _floor_rows(floors: Floors | None) -> list[FloorRow]:
    """Return a row for each floor that was measured."""
    if floors is None:
        return []
    scores = {
        "majority": floors.majority,
        "majority per type": floors.majority_per_type,
        "majority per question type": floors.majority_per_question_type,
        "question-only": floors.question_only,
    }
    return [
        FloorRow(name, FLOOR_WORDS[name], score.accuracy, score.by_type)
        for name, score in scores.items()
        if score is not None
    ]


def _durations(dense: Sequence[Dense], results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return the mean time and the steps of the dense runs, and those of the other runs."""
    facts = []
    if dense:
        mean = duration(fmean(run.duration_s for run in dense))
        facts.append(("Dense run", f"{mean} each, {dense[0].steps:,} steps"))
    if results:
        mean = duration(fmean(run.duration_s for run in results))
        counts = sorted({run.steps for run in results})
        steps = f"{counts[0]:,}" + (f" to {counts[-1]:,}" if len(counts) > 1 else "")
        facts.append(("Pruned run", f"{mean} each, {steps} steps of retraining"))
    return facts
