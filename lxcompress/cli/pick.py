"""`lxcompress pick`: show which ticket to ship by a stated rule, and why the other groups were not picked.

A group holds the runs of one method and one sparsity, over all seeds.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lxcompress.analysis.alternatives import CandidateFile
    from lxcompress.analysis.choice import Choice, PickedTicket, RejectedGroup
    from lxcompress.analysis.summary import RunSummary


def pick_cli(
    run: Annotated[Path, typer.Argument(help="The run folder of a study.")],
    retain: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the dense accuracy to keep.  [default: the recipe's pick.retain]"),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, max=0.5, help="Instead of --retain: the accuracy that may be lost; 0.01 is one point."),
    ] = None,
    max_size_mb: Annotated[float | None, typer.Option(min=0, help="Largest size on disk, in MB (10^6 bytes).")] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(min=0, help="Largest p90 latency of one answer, in ms.")
    ] = None,
    max_memory_mb: Annotated[
        float | None, typer.Option(min=0, help="Largest peak memory of the process, in MB.")
    ] = None,
    max_risk: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Largest share of wrong answers among the --coverage questions it is most sure of."
        ),
    ] = None,
    coverage: Annotated[
        float, typer.Option(min=0, max=1, help="With --max-risk: the share of questions that it answers.")
    ] = 0.8,
    max_flips: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Largest share of questions that dense answers right and the ticket wrong."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Use the measurements on this device, such as a phone, in place of this machine's."),
    ] = None,
    show_all: Annotated[
        bool,
        typer.Option(
            "--all", help="Show also all warnings, all exported files, and why each other group was not picked."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the choice as JSON, also when nothing is picked.")
    ] = False,
) -> None:
    """Pick the sparsest ticket that keeps enough accuracy and stays within the limits.

    Example: lxcompress pick runs/quickstart --retain 0.98 --max-size-mb 10
    """
    if retain is not None and max_drop is not None:
        raise typer.BadParameter("give --retain or --max-drop, not both: each says how much accuracy to keep")

    from lxcompress.analysis.choice_json import choice_json
    from lxcompress.analysis.devices import measured_on
    from lxcompress.analysis.pick import pick_ticket
    from lxcompress.analysis.rule import Rule
    from lxcompress.analysis.summary import summarise
    from lxcompress.analysis.verdict import verdict
    from lxcompress.errors import RunError
    from lxcompress.output import json_text
    from lxcompress.rundir import read_run

    found = read_run(run)
    summary = summarise(found if device is None else measured_on(found, device))
    if retain is None and max_drop is None:
        retain = summary.recipe.pick.retain
    rule = Rule(
        retain=retain,
        max_drop=max_drop,
        max_size_mb=max_size_mb,
        max_latency_ms=max_latency_ms,
        max_memory_mb=max_memory_mb,
        max_risk=max_risk,
        coverage=coverage,
        max_flips=max_flips,
    )
    choice = pick_ticket(summary, rule)
    if as_json:
        typer.echo(json_text(choice_json(choice)))
    elif choice.picked is not None:
        _show(summary, choice, choice.picked, show_all=show_all)
    if choice.picked is None:
        if not as_json:
            _show_equal(choice)
            _show_rejected(choice, show_all=show_all)
        raise RunError(f"{run}: {verdict(choice)} {_remedy(run, choice)}")


NEAREST = 3
"""The number of groups that are named for each reason; those nearest to the rule come first."""
WARNINGS = 2
"""The number of warnings that are shown without --all; below the headline it is one less."""
REASONS = {
    "": "satisfy the rule, and another is sparser or more accurate",
    "accuracy": "keep too little accuracy",
    "floor": "answer no better than without looking",
    "seeds": "are not finished",
    "protocol": "are not tickets",
    "size": "are too large",
    "latency": "are too slow",
    "memory": "take too much memory",
    "export": "are not exported",
    "extra": "need a package that is not installed",
    "measurement": "are not measured",
    "reliability": "have no measured reliability",
    "risk": "are wrong too often where they are sure",
    "changed answers": "turn too many right answers wrong",
    "export accuracy": "lose too much when they are exported",
}


def _show(summary: RunSummary, choice: Choice, picked: PickedTicket, *, show_all: bool) -> None:
    """Show the choice in at most 15 lines, and the test accuracies; with --all, also the tables and all warnings."""
    from lxcompress.analysis.held_out import held_out_words
    from lxcompress.analysis.verdict import compared_words, headlines
    from lxcompress.cli.screen import out, remarks
    from lxcompress.units import percent

    assert choice.threshold is not None
    for index, sentence in enumerate(headlines(summary, choice)):
        out.print(sentence, style="bold" if index else "bold green", markup=False)
    is_headed = choice.equal is not None and choice.equal.is_decided
    if show_all or choice.rule.has_limits or not is_headed:  # the headline has the required accuracy too
        out.print(f"rule: {choice.rule.words} (accuracy {percent(choice.threshold)} % or more)", markup=False)
    out.print(f"accuracy: {_accuracy_words(picked)}", markup=False)
    if choice.held_out:
        out.print(held_out_words(choice.held_out), markup=False)
    # Users copy paths and commands, so these are never folded.
    if picked.exported is not None:
        out.print(f"file: {_file_words(picked)}", markup=False)
    shipped = picked.free.exported.folder if picked.free else picked.exported.folder if picked.exported else None
    if shipped is None:
        out.print(f"ticket: {picked.ticket}", markup=False, soft_wrap=True)
    else:
        out.print(f"{'exported' if picked.commands else 'ship'}: {shipped}", markup=False, soft_wrap=True)
    words, command = compared_words(picked)
    if words and (show_all or not _headline_compares(choice, picked)):
        out.print(words, markup=False)
    commands = [*picked.commands, *([command] if command and not picked.commands else [])]
    if choice.equal and choice.equal.command and not commands:
        commands.append(choice.equal.command)
    for command in commands:
        out.print(f"next: {command}", markup=False, soft_wrap=True)
    if picked.missing_twins and not any("--twins" in command for command in commands):
        missing, make = ", ".join(picked.missing_twins), f"lxcompress export {shlex.quote(str(picked.ticket))} --twins"
        out.print(f"not exported: {missing}; make them with: {make}", markup=False, soft_wrap=True)
    warnings = WARNINGS - is_headed
    for warning in choice.warnings if show_all else choice.warnings[:warnings]:
        remarks.print(f"warning: {warning}", style="yellow", markup=False)
    if not show_all:
        _show_more(choice, warnings)
        return
    if picked.others:
        _show_files("all exported files", picked.others)
    _show_front(choice)
    if choice.rejected:
        _show_rejected(choice, show_all=True)


def _show_equal(choice: Choice) -> None:
    """Show how the exported tickets compare with dense int8 at equal accuracy, if they were compared."""
    from lxcompress.analysis.equal_accuracy_words import equal_accuracy_sentence
    from lxcompress.cli.screen import out

    if choice.equal and choice.equal.is_decided:
        out.print(equal_accuracy_sentence(choice.equal), style="bold", markup=False)


def _headline_compares(choice: Choice, picked: PickedTicket) -> bool:
    """Return whether the headline already says that the picked file is faster than every dense int8 file."""
    speed = choice.equal.speed if choice.equal else None
    return speed is not None and speed.verdict == "faster" and speed.file.exported == picked.exported


def _show_more(choice: Choice, warnings: int) -> None:
    """Show one line that says what else --all would show; `warnings` is the number of warnings that were shown."""
    from lxcompress.cli.screen import out

    more = len(choice.warnings) - warnings
    parts = [f"{more} more warning{'s' if more > 1 else ''}"] if more > 0 else []
    tickets = [group for group in choice.rejected if not group.key.method.is_control]
    parts += [f"{len(tickets)} {'group' if len(tickets) == 1 else 'groups'} not picked"] if tickets else []
    parts += ["all exported files"] if choice.picked and choice.picked.others else []
    if parts:
        out.print(f"--all shows also: {', '.join(parts)}", style="dim", markup=False)


def _accuracy_words(picked: PickedTicket) -> str:
    """Return the mean accuracy of the picked group and its interval as text, with a warning about the chosen seed."""
    from lxcompress.analysis.words import plus_minus
    from lxcompress.units import percent

    overall = picked.group.retrained.overall
    if not picked.interval:
        return f"{plus_minus(overall)} % with seed {picked.seed} only, so there is no interval"
    low, high = map(percent, picked.interval)
    return (
        f"{plus_minus(overall)} %, 95 % interval of the mean {low} to {high} % (Student's t of the logit); seed "
        f"{picked.seed} was chosen on the same questions, so expect the average"
    )


def _file_words(picked: PickedTicket) -> str:
    """Return the format, size, latency, memory and accuracy of the picked file as text."""
    from lxcompress.analysis.alternatives import candidate_of
    from lxcompress.units import percent, significant

    assert picked.exported is not None
    artifact, found = picked.exported.artifact, candidate_of(picked.exported)
    parts = [f"{artifact.format} {artifact.precision}", f"{significant(found.size_mb)} MB"]
    parts += [f"p90 {significant(found.latency_ms)} ms"] if found.latency_ms is not None else []
    parts += [f"{significant(found.memory_mb)} MB of memory"] if found.memory_mb is not None else []
    parts += [f"{percent(found.accuracy)} % accuracy"] if found.accuracy is not None else []
    which = f"; the best of {picked.fitting} files that satisfy the rule" if picked.fitting > 1 else ""
    return ", ".join(parts) + which


def _show_files(title: str, points: Sequence[CandidateFile]) -> None:
    """Show a table of exported files: role, accuracy, size, latency and memory."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.cli.screen import out
    from lxcompress.units import percent, significant

    def text(value: float | None) -> str:
        return "–" if value is None else significant(value)

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(title, overflow="fold")
    for name in ("file", "accuracy %", "MB", "p90 ms", "memory MB"):
        table.add_column(name, justify="left" if name == "file" else "right", no_wrap=name != "file")
    for point in points:
        artifact = point.exported.artifact
        table.add_row(
            point.role,
            f"{artifact.format} {artifact.precision}",
            "–" if point.accuracy is None else percent(point.accuracy),
            *map(text, (point.size_mb, point.latency_ms, point.memory_mb)),
        )
    out.print()
    out.print(table, markup=False)


def _show_front(choice: Choice) -> None:
    """Show the Pareto-optimal files; if no file is measured, the tickets optimal in accuracy and sparsity."""
    from lxcompress.cli.screen import out
    from lxcompress.units import percent

    if choice.files:
        _show_files("Pareto-optimal files", choice.files)
        return
    if choice.front:
        points = (f"{point.label} ({percent(point.accuracy)} %)" for point in choice.front)
        out.print()
        out.print(f"Pareto-optimal in accuracy and sparsity: {', '.join(points)}", markup=False)


def _show_rejected(choice: Choice, *, show_all: bool) -> None:
    """Show the groups that were not picked: with --all a row for each group, else a line for each reason."""
    from lxcompress.cli.screen import out

    tickets = [group for group in choice.rejected if not group.key.method.is_control]
    controls = list(dict.fromkeys(group.key.series for group in choice.rejected if group.key.method.is_control))
    begun = [group for group in tickets if group.accuracy is not None]
    if show_all:
        out.print()
    if begun:
        (_show_groups if show_all else _show_reasons)(begun)
    if len(begun) < len(tickets):
        out.print(f"not started: {len(tickets) - len(begun)} more groups have no finished run", markup=False)
    if controls and show_all:
        out.print(f"controls are never picked: {', '.join(controls)}", markup=False)
    if not show_all:
        return
    least = choice.picked.group.achieved.mean if choice.picked else 0.0
    unmeasured = [group for group in choice.rejected if group.commands and (group.achieved or 0) >= least]
    if unmeasured:
        out.print("measure the groups that could still be picked:", markup=False)
    for group in unmeasured:
        out.print(f"  {' && '.join(group.commands)}", markup=False, soft_wrap=True)


def _show_groups(rejected: Sequence[RejectedGroup]) -> None:
    """Show a table with a row for each group that was not picked, and the reasons."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from lxcompress.cli.screen import out
    from lxcompress.units import percent

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("not picked", overflow="fold")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for group in rejected:
        assert group.accuracy is not None
        table.add_row(group.label, percent(group.accuracy), "; ".join(group.reasons))
    out.print(table, markup=False)


def _show_reasons(rejected: Sequence[RejectedGroup]) -> None:
    """Show a line for each constraint: how many groups violate it, and which of them are nearest to it."""
    from lxcompress.cli.screen import out
    from lxcompress.units import percent

    out.print(f"not picked: {len(rejected)} groups, by the limit that they violate (--all lists them)")
    by_reason: dict[str, list[tuple[float, RejectedGroup]]] = {}
    for group in rejected:
        for name, shortfall in zip(group.broken, group.shortfalls, strict=True):
            by_reason.setdefault(name, []).append((shortfall, group))
        if not group.broken:
            by_reason.setdefault("", []).append((-(group.achieved or 0.0), group))
    for name, found in by_reason.items():
        found.sort(key=lambda pair: pair[0])
        nearest = (f"{group.label} ({percent(group.accuracy or 0)} %)" for _, group in found[:NEAREST])
        out.print(f"  {len(found)} {REASONS.get(name, name)}; nearest: {', '.join(nearest)}", markup=False)


def _remedy(run: Path, choice: Choice) -> str:
    """Return what the user can do if no ticket satisfies the rule."""
    if choice.nearest is not None and choice.nearest.commands:
        return f"Find out with: {' && '.join(choice.nearest.commands)}"
    if choice.dense is None or not choice.is_final:
        from lxcompress.output import command_line

        return f"Show what is missing with: {command_line('status', run)}"
    return "Give a weaker rule, such as --retain 0.95, or study lower sparsities (prune.sparsities of the recipe)"
