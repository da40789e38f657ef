"""Pick a ticket by a stated rule: the sparsest one that keeps enough accuracy and stays within the limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lxcompress.analysis.alternatives import CandidateFile, alternatives, candidate_of
from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.choice import Choice, PickedTicket, RejectedGroup
from lxcompress.analysis.commands import next_commands
from lxcompress.analysis.comparison import best_free_alternative, is_slower
from lxcompress.analysis.constraints import (
    CONTROL,
    Violation,
    check_exported,
    check_file,
    check_group,
    check_prediction,
    total_shortfall,
)
from lxcompress.analysis.equal_accuracy import compare_at_equal_accuracy
from lxcompress.analysis.fronts import file_front, ticket_front
from lxcompress.analysis.groups import GroupKey, SeedGroup, Spread
from lxcompress.analysis.held_out import held_out_models
from lxcompress.analysis.pick_warnings import pick_warnings
from lxcompress.analysis.prediction import Prediction, predict_files
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import RunSummary
from lxcompress.records import Result
from lxcompress.rundir import RunDir
from lxcompress.stats import mean_interval
from lxcompress.units import percent, short_percent

STEP = 0.05
"""Sparsities count as equal if they round to the same multiple of this: widths of smaller models come in steps."""
File = ExportedArtifact | Prediction


@dataclass(frozen=True)
class Judgement:
    """The constraints that a group of runs (one method and sparsity) violates, and its best file.

    `broken` is empty if the group satisfies the rule. `fitting` is the number of its artifacts that satisfy the rule.
    `possible` are files that could be exported and violate no limit, as far as is known.
    """

    group: SeedGroup
    label: str
    broken: tuple[Violation, ...]
    file: File | None = None
    fitting: int = 0
    possible: tuple[Prediction, ...] = ()


def pick_ticket(summary: RunSummary, rule: Rule) -> Choice:
    """Return the choice by `rule`: the sparsest complete group that satisfies the rule and beats the floors.

    Of equally sparse groups, the one with the smallest model is chosen, then the most accurate. The twins of a study
    take part too; each is a group with one seed.
    """
    dense = summary.dense.overall if summary.dense and not summary.dense_missing else None
    threshold = rule.threshold(dense.mean) if dense else None
    judged = [judge(group, summary, rule, threshold) for group in (*summary.groups, *summary.twins)]
    best = max((found for found in judged if not found.broken), key=preference, default=None)
    picked = _pick(best, summary) if best else None
    return Choice(
        rule=rule,
        dense=dense,
        longer=longer_dense(summary),
        threshold=threshold,
        picked=picked,
        nearest=None if best else find_nearest(judged),
        rejected=tuple(_reject(judged, summary.unstarted, best)),
        warnings=tuple(
            summary.warnings if picked is None or threshold is None else pick_warnings(picked, summary, rule, threshold)
        ),
        is_final=summary.is_complete,
        front=tuple(ticket_front(summary)),
        files=tuple(file_front(summary)),
        equal=compare_at_equal_accuracy(summary, rule),
        held_out=held_out_models(summary, *((picked.group, picked.label) if picked else ())),
    )


def pick_of_grid(summary: RunSummary, rule: Rule) -> Choice:
    """Return the choice among the groups of the recipe only; the twins are drawn later, for the ticket picked here."""
    return pick_ticket(replace(summary, twins=()), rule)


def longer_dense(summary: RunSummary) -> Spread | None:
    """Return the accuracy of the dense model that was trained twice as long; None if no such control is complete."""
    controls = (group for group in summary.groups if group.key.method.control == "dense-longer" and group.is_complete)
    return next((group.retrained.overall for group in controls if group.key.method.length == 2), None)


def ticket_of(summary: RunSummary, group: SeedGroup) -> Path:
    """Return the folder of the ticket that a group would ship; the tickets of twins are in a separate folder."""
    run = RunDir(summary.root)
    return (run.twins if _is_twin(group, summary) else run).ticket(group.key.cell(group.best_seed))


def judge(group: SeedGroup, summary: RunSummary, rule: Rule, threshold: float | None) -> Judgement:
    """Return which constraints `group` violates, and its best file. One file must satisfy all limits together."""
    broken = check_group(group, summary, rule, threshold)
    if group.key.method.is_control:
        return Judgement(group, group.key.label, tuple(broken))
    is_twin = _is_twin(group, summary)
    label = f"the structured twin at {short_percent(group.key.target)} %" if is_twin else group.key.label
    result = _result_of(summary, group)
    predicted = predict_files(summary, result, ticket_of(summary, group)) if result else []
    artifacts = _artifacts_of(group, summary)
    # If the ticket to ship has no file, those of other seeds are judged: they differ in values only, not in shape.
    own = [exported for exported in artifacts if result and exported.artifact.cell == result.cell] or artifacts
    tried: list[tuple[list[Violation], File]] = [
        *((_check_artifact(exported, group, summary, rule, threshold), exported) for exported in own),
        *((check_prediction(file, rule, usual=summary.recipe.export.format), file) for file in predicted),
    ]
    if not tried:
        return Judgement(group, label, tuple(broken))
    possible = tuple(file for found, file in tried if isinstance(file, Prediction) and not found)
    if broken or not rule.has_limits:  # prefer a file that is exported
        tried = [(found, file) for found, file in tried if isinstance(file, ExportedArtifact)] or tried
    least, file = min(tried, key=lambda pair: (len(pair[0]), *total_shortfall(pair[0]), _speed_key(pair[1])))
    fits = [found_file for found, found_file in tried if isinstance(found_file, ExportedArtifact) and not found]
    if fits:
        file = best_file(fits)
    # If the ticket itself violates the rule, exporting another file of the ticket does not help.
    needs_export = isinstance(file, Prediction) and any(found.commands for found in least)
    if rule.has_limits and not (broken and needs_export):
        broken += least
    return Judgement(group, label, tuple(broken), file, len(fits), possible)


def _check_artifact(
    exported: ExportedArtifact, group: SeedGroup, summary: RunSummary, rule: Rule, threshold: float | None
) -> list[Violation]:
    """Return all limits that one artifact of a group violates."""
    return [*check_file(exported, group, rule, threshold), *check_exported(exported, summary, rule)]


def preference(judged: Judgement) -> tuple[float, float, float]:
    """Return a key that is greater for a better group: sparser, then a smaller model, then more accurate."""
    group = judged.group
    parameters = -group.parameters if group.parameters is not None else -math.inf
    return round(group.achieved.mean / STEP), round(parameters, -3), group.retrained.overall.mean


def best_file(files: Sequence[ExportedArtifact]) -> ExportedArtifact:
    """Return the smallest of the files that are not slower than the fastest one, as far as their benches can tell."""
    fastest = min(files, key=_speed_key)
    if fastest.fresh is None:
        return fastest
    quick = [file for file in files if file is fastest or (file.fresh and not is_slower(file, fastest))]
    return min(quick, key=lambda file: (file.size_mb, _speed_key(file)))


def find_nearest(judged: Sequence[Judgement]) -> RejectedGroup | None:
    """Return the group that comes closest to the rule; None if there is none.

    This is the complete group with the fewest violations. Of several, it is the one whose largest violation is
    smallest, and then the sparsest one. Incomplete groups count only if no group is complete; controls never count.
    """
    tickets = [found for found in judged if not found.group.key.method.is_control]
    complete = [found for found in tickets if found.group.is_complete] or tickets

    def distance(found: Judgement) -> tuple[int, float, float]:
        largest = max(violation.shortfall for violation in found.broken)
        return len(found.broken), largest, -found.group.achieved.mean

    return _rejected(min(complete, key=distance), None) if complete else None


def _is_twin(group: SeedGroup, summary: RunSummary) -> bool:
    """Return whether a group is a twin, and not a group of the recipe."""
    return any(twin is group for twin in summary.twins)


def _result_of(summary: RunSummary, group: SeedGroup) -> Result | None:
    """Return the record of the run whose ticket a group would ship; None if it is missing."""
    return summary.result_by_cell.get(group.key.cell(group.best_seed).id)


def _artifacts_of(group: SeedGroup, summary: RunSummary) -> list[ExportedArtifact]:
    """Return the artifacts of all tickets of a group; those of the ticket to ship come first."""
    cells: list[str | None] = [group.key.cell(seed).id for seed in (group.best_seed, *group.seeds)]
    found = [exported for exported in summary.artifacts if exported.artifact.cell in cells]
    return sorted(found, key=lambda exported: cells.index(exported.artifact.cell))


def _speed_key(file: File) -> tuple[int, float, float]:
    """Return a sort key for files that satisfy the rule: measured files come first, by speed and then by size.

    Then come files whose accuracy is known, by size, and then the other exported files, by size. Predicted files come
    last, in their order.
    """
    if isinstance(file, Prediction):
        return 3, 0.0, 0.0
    if file.latency_p90_ms is not None:
        return 0, file.latency_p90_ms, file.size_mb
    return (2 if file.accuracy is None else 1), 0.0, file.size_mb


def _pick(judged: Judgement, summary: RunSummary) -> PickedTicket:
    """Return the ticket to ship of the best group, its file, and the files that this file is compared with."""
    group = judged.group
    cell = group.key.cell(group.best_seed).id
    file = judged.file
    exported = file if isinstance(file, ExportedArtifact) and file.artifact.cell == cell else None
    predicted = file if isinstance(file, Prediction) else None
    others = alternatives(summary.artifacts, cell, group.best_seed)
    free = best_free_alternative(candidate_of(exported), others) if exported else None
    smaller = find_smaller(judged.possible, free) if free else None
    if smaller is not None:
        exported, free, predicted = None, None, smaller
    ticket = ticket_of(summary, group)
    return PickedTicket(
        group=group,
        label=judged.label,
        seed=group.best_seed,
        cell=cell,
        ticket=ticket,
        exported=exported,
        predicted=predicted,
        commands=next_commands(summary.root, ticket, exported or predicted, others),
        fitting=judged.fitting,
        others=tuple(others),
        free=free,
        is_twin=_is_twin(group, summary),
    )


def find_smaller(possible: Sequence[Prediction], free: CandidateFile) -> Prediction | None:
    """Return a file that could be exported and would be more than STEP (5 %) smaller than dense int8.

    The file has the format of the dense int8 file `free`. Return None if there is no such file.
    """
    format, size_mb = free.exported.artifact.format, free.size_mb * (1 - STEP)
    return next(
        (file for file in possible if file.format == format and file.size_mb is not None and file.size_mb < size_mb),
        None,
    )


def _reject(judged: Sequence[Judgement], unstarted: Sequence[GroupKey], best: Judgement | None) -> list[RejectedGroup]:
    """Return every group except the best one, with the reasons; groups without a finished run come last."""
    rejected = [_rejected(found, best) for found in judged if found is not best]
    return rejected + [_unstarted(key) for key in unstarted]


def _unstarted(key: GroupKey) -> RejectedGroup:
    """Return the rejection of a group without a finished run."""
    if key.method.is_control:
        return RejectedGroup(key, key.label, None, None, (CONTROL.constraint,), (CONTROL.reason,))
    return RejectedGroup(key, key.label, None, None, ("seeds",), ("incomplete: no run is finished",))


def _rejected(judged: Judgement, best: Judgement | None) -> RejectedGroup:
    """Return the rejection of a group, with the violated constraints, or why `best` is preferred."""
    can_still_win = all(violation.commands for violation in judged.broken)
    commands = [command for violation in judged.broken for command in violation.commands]
    accuracy = judged.group.retrained.overall
    return RejectedGroup(
        key=judged.group.key,
        label=judged.label,
        achieved=judged.group.achieved.mean,
        accuracy=accuracy.mean,
        broken=tuple(violation.constraint for violation in judged.broken),
        reasons=tuple(violation.reason for violation in judged.broken) or (_why_beaten(judged, best),),
        commands=tuple(commands) if can_still_win else (),
        shortfalls=tuple(violation.shortfall for violation in judged.broken),
        interval=mean_interval(list(accuracy.by_seed.values())),
    )


def _why_beaten(judged: Judgement, best: Judgement | None) -> str:
    """Return in words why `best` is preferred to a group that satisfies the rule too."""
    assert best is not None, "a group that breaks nothing is rejected only for a better one"
    mine, its = judged.group, best.group
    (my_step, my_size, _), (its_step, its_size, _) = preference(judged), preference(best)
    if my_step < its_step:
        least, most = percent(mine.achieved.mean, 1), percent(its.achieved.mean, 1)
        return f"less sparse than the pick ({least} % < {most} %)"
    if my_size < its_size and mine.parameters and its.parameters:
        weights = f"{mine.parameters / 1e6:.3g} against {its.parameters / 1e6:.3g} million weights"
        return f"as sparse as the pick, but not a smaller model ({weights})"
    accuracies = [percent(group.retrained.overall.mean) for group in (mine, its)]
    return f"as sparse as the pick and not more accurate ({accuracies[0]} % against {accuracies[1]} %)"
