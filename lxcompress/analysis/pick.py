"""The winning ticket by a stated rule: the sparsest that keeps enough accuracy and fits the limits."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lxcompress.analysis.alternatives import (
    DENSE_INT8,
    CandidateFile,
    alternatives,
    best_free_alternative,
    candidate_of,
    comparison,
    find_dense_int8,
    find_pair,
    is_slower,
)
from lxcompress.analysis.prediction import Prediction, predict_files
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.summary import (
    ExportedArtifact,
    GroupKey,
    RunSummary,
    SeedGroup,
    Spread,
    highest_floor,
    latency_ms,
    named_floors,
    numbered,
    plus_minus,
)
from lxcompress.catalog.formats import find_format
from lxcompress.catalog.runtimes import list_serving
from lxcompress.exporters.formats import default_precision
from lxcompress.records import Result
from lxcompress.stats import mean_interval, pareto_front
from lxcompress.units import percent, short_percent

# Rounding of floats, not a tolerance: 0.70 - 0.01 is a little more than 0.69.
ROUNDING = 1e-9
QUICK = ("int8", "fp32")
"""Precisions that a file is made in to satisfy a limit on time or memory: others are no faster on processors here."""
STEP = 0.05
"""Sparsities that round to the same multiple of this are called equal: widths of smaller models come in steps."""


@dataclass(frozen=True)
class Rule:
    """What a ticket must satisfy: `retain` x the dense mean or the dense mean less `max_drop`, and the limits given.

    Sizes are in MB of 10^6 bytes; latency is the 90th percentile of one answer; memory is the process's peak.
    """

    retain: float | None = None
    max_drop: float | None = None
    max_size_mb: float | None = None
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None

    def __post_init__(self) -> None:
        assert (self.retain is None) != (self.max_drop is None), "give retain or max_drop, not both"

    @property
    def has_limits(self) -> bool:
        return any(limit is not None for limit in (self.max_size_mb, self.max_latency_ms, self.max_memory_mb))

    @property
    def accuracy_words(self) -> str:
        if self.retain is not None:
            return f"at least {short_percent(self.retain)} % of dense accuracy"
        drop = short_percent(self.max_drop or 0)
        return f"all but {drop} {'point' if drop == '1' else 'points'} of dense accuracy"

    @property
    def words(self) -> str:
        """The rule as a phrase: at least 99 % of dense accuracy within 50 MB on disk and 80 ms p90 latency."""
        limits = [
            f"{limit:g} {unit}"
            for limit, unit in (
                (self.max_size_mb, "MB on disk"),
                (self.max_latency_ms, "ms p90 latency"),
                (self.max_memory_mb, "MB peak memory"),
            )
            if limit is not None
        ]
        return self.accuracy_words + (f" within {' and '.join(limits)}" if limits else "")

    def threshold(self, dense: float) -> float:
        """The accuracy (0-1) that a ticket must reach."""
        return dense * self.retain if self.retain is not None else dense - (self.max_drop or 0)


@dataclass(frozen=True)
class Violation:
    """A constraint that a group breaks; `shortfall` is how far off it is, relative to the constraint.

    `commands` make and measure what must be known before the constraint can be checked.
    """

    constraint: str
    reason: str
    shortfall: float
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class RejectedGroup:
    """A group that was not picked, and why; `commands` where all that it lacks is to be measured.

    `broken` names the constraints that it broke, none where it was beaten; `shortfalls` are how far off it was of each,
    relative to the constraint.
    """

    key: GroupKey
    label: str
    achieved: float | None
    accuracy: float | None
    broken: tuple[str, ...]
    reasons: tuple[str, ...]
    commands: tuple[str, ...] = ()
    shortfalls: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PickedTicket:
    """The winning group, and the ticket of it to ship: the seed that scored best.

    `cost` is the one of its artifacts that is to be shipped, of `fitting` that satisfy the rule; where there is none,
    `predicted` is the file to make. `others` are the files that it is compared with. `free` is the dense int8 among
    them that is as good in everything.
    """

    group: SeedGroup
    label: str
    seed: int
    cell: str
    ticket: Path
    cost: ExportedArtifact | None
    predicted: Prediction | None
    commands: tuple[str, ...]
    fitting: int = 0
    others: tuple[CandidateFile, ...] = ()
    free: CandidateFile | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the group's accuracy, 0-1; None with one seed."""
        return mean_interval(list(self.group.retrained.overall.by_seed.values()))

    @property
    def missing_twins(self) -> tuple[str, ...]:
        """The alternatives that are not exported: a ticket is never shown without them."""
        roles = {each.role for each in self.others}
        masked = any(not each.role.startswith(("dense", "structured")) for each in self.others)
        missing = [role for role in ("dense", DENSE_INT8) if role not in roles]
        if self.group.key.method.is_structured:
            return (*missing, *(() if masked else ("unstructured",)))
        return (*missing, *(() if "structured" in roles else ("structured",)))


@dataclass(frozen=True)
class FrontPoint:
    """A group, or the dense model, by accuracy (0-1) and sparsity (0-1)."""

    label: str
    accuracy: float
    achieved: float


@dataclass(frozen=True)
class Choice:
    """What the rule chose (`picked` is None if nothing satisfies it), and why each other group was not.

    `longer` is the accuracy of the dense model trained for twice as long, where that control is whole. `front` holds
    the tickets that none beats in accuracy and sparsity both, the dense model among them; `files` the exported and
    measured artifacts that none beats in accuracy, size, p90 latency and memory.
    """

    rule: Rule
    dense: Spread | None
    longer: Spread | None
    threshold: float | None
    picked: PickedTicket | None
    nearest: RejectedGroup | None
    rejected: tuple[RejectedGroup, ...]
    doubts: tuple[str, ...]
    is_final: bool
    front: tuple[FrontPoint, ...] = ()
    files: tuple[CandidateFile, ...] = ()


@dataclass(frozen=True)
class _Judged:
    group: SeedGroup
    label: str
    broken: tuple[Violation, ...]
    file: ExportedArtifact | Prediction | None
    fitting: int = 0
    predicted: tuple[Prediction, ...] = ()
    """the files that could be made and break no limit that is known"""


def default_rule(summary: RunSummary) -> Rule:
    """The rule of the run's own recipe."""
    return Rule(retain=summary.recipe.pick.retain)


def pick_ticket(summary: RunSummary, rule: Rule) -> Choice:
    """Return the sparsest complete group that satisfies `rule` and clears the floors.

    Of equally sparse ones it is the smallest model, then the most accurate. The twins of a study take part, each by the
    one seed that it has.
    """
    dense = summary.dense.overall if summary.dense and not summary.dense_missing else None
    threshold = rule.threshold(dense.mean) if dense else None
    judged = [_judge(group, summary, rule, threshold) for group in (*summary.groups, *summary.twins)]
    satisfying = [each for each in judged if not each.broken]
    best = max(satisfying, key=_preference, default=None)
    picked = _ship(best, summary) if best else None
    return Choice(
        rule=rule,
        dense=dense,
        longer=longer_dense(summary),
        threshold=threshold,
        picked=picked,
        nearest=None if best else _nearest(judged),
        rejected=tuple(_reject(judged, summary.unstarted, best)),
        doubts=tuple(_doubts(picked, summary, rule, threshold) if picked else summary.doubts),
        is_final=summary.is_complete,
        front=tuple(standing_front(summary)),
        files=tuple(file_front(summary)),
    )


def pick_of_grid(summary: RunSummary, rule: Rule) -> Choice:
    """Return the choice among the study's own groups: the one that twins are drawn for."""
    return pick_ticket(replace(summary, twins=()), rule)


def standing_front(summary: RunSummary) -> list[FrontPoint]:
    """The complete groups, and the dense model, that none beats in accuracy and sparsity both."""
    standings = [
        FrontPoint(group.key.label, group.retrained.overall.mean, group.achieved.mean)
        for group in summary.groups
        if group.is_complete and not group.key.method.is_control and has_tickets(summary.recipe)
    ]
    if summary.dense and not summary.dense_missing:
        standings.insert(0, FrontPoint("dense", summary.dense.overall.mean, 0.0))
    # Masks of one target may differ by a weight or two: no ticket is sparser by that.
    return pareto_front(standings, better=lambda each: (-each.accuracy, -round(each.achieved, 4)))


def file_front(summary: RunSummary) -> list[CandidateFile]:
    """The exported and measured artifacts that none beats in accuracy, size, p90 latency and memory at once."""
    placed = [(each, each.coordinates) for each in map(candidate_of, summary.costs)]
    known = [(each, coordinates) for each, coordinates in placed if coordinates is not None]
    return [each for each, _ in pareto_front(known, better=lambda pair: pair[1])]


def verdict(choice: Choice) -> str:
    """The choice in one sentence."""
    if choice.picked is None:
        if choice.dense is None:
            return "Nothing can be picked yet: no dense baseline is finished for every seed."
        nearest = choice.nearest
        if nearest is not None and nearest.commands:
            why = "; ".join(nearest.reasons)
            return f"It is not known whether a file keeps {choice.rule.words}. Nearest: {nearest.label}, {why}."
        miss = f" Nearest: {nearest.label}, {'; '.join(nearest.reasons)}." if nearest else ""
        return f"No ticket keeps {choice.rule.words}.{miss}"
    words = f"{choice.picked.label}: {accuracy_words(choice)}"
    free = free_words(choice.picked)
    if free:
        return f"{free} The best ticket is {words}.{_longer_words(choice)}"
    file = choice.picked.predicted
    size = "" if file is None or file.size_mb is None else f"about {_figure(file.size_mb)} MB, "
    made = "" if file is None or choice.picked.cost else f" (as {file.name}: predicted, {size}not exported yet)"
    return f"Ship {choice.picked.label}{made}: {accuracy_words(choice)}.{_longer_words(choice)}"


def accuracy_words(choice: Choice) -> str:
    """Return what the picked group keeps of the dense model's accuracy, with both figures."""
    assert choice.picked is not None
    assert choice.dense is not None
    group = choice.picked.group
    assert group.retained is not None
    seeds = f"seed {group.seeds[0]} alone" if len(group.seeds) == 1 else f"{len(group.seeds)} seeds"
    dense = Spread({seed: choice.dense.by_seed[seed] for seed in group.seeds})
    kept = "matches dense" if group.retained >= 1 else f"keeps {percent(group.retained, 1)} % of dense accuracy"
    return f"{kept} ({plus_minus(group.retrained.overall)} against {plus_minus(dense)} %, {seeds})"


def free_words(picked: PickedTicket) -> str:
    """Return that dense int8 is as good as the picked file in everything; empty where it is not."""
    if picked.free is None or picked.cost is None:
        return ""
    return f"Ship dense int8, which needs no pruning: {comparison(picked.free, candidate_of(picked.cost))}."


def compared_words(picked: PickedTicket) -> tuple[str, str | None]:
    """Return how the picked file compares with dense int8 of its format, and the command that is missing for it.

    Both are empty for a file that is not there yet, or of a format that has no int8.
    """
    if (
        picked.cost is None
        or picked.free is not None
        or "int8" not in find_format(picked.cost.artifact.format).precisions
    ):
        return "", None
    artifact = picked.cost.artifact
    other = find_dense_int8(picked.cost, picked.others)
    if other is None:
        if picked.cost.artifact.cell is None:
            return "", None
        command = f"lxcompress export {_quoted(picked.ticket)} --twins --format {artifact.format}"
        return (
            f"Not compared with dense int8 (no pruning needed): no {artifact.format} file of it is exported.",
            command,
        )
    words = f"Compared with dense int8 (no pruning needed): {comparison(candidate_of(picked.cost), other)}"
    if find_pair(picked.cost, other.cost):
        return f"{words}.", None
    return f"{words}; speed not measured side by side.", bench_command(picked.cost.folder, other.cost.folder)


def _longer_words(choice: Choice) -> str:
    """What more training alone gives, where that is more than the pick has; empty otherwise."""
    if choice.picked is None or choice.longer is None:
        return ""
    if choice.longer.mean <= choice.picked.group.retrained.overall.mean:
        return ""
    return f" Dense trained twice as long scores {plus_minus(choice.longer)}."


def longer_dense(summary: RunSummary) -> Spread | None:
    """Accuracy of the dense model trained for twice as long; None where no such control is whole."""
    found = [
        each
        for each in summary.groups
        if each.key.method.control == "dense-longer" and each.key.method.length == 2 and each.is_complete
    ]
    return found[0].retrained.overall if found else None


def choice_json(choice: Choice) -> dict[str, Any]:
    """The choice as plain JSON values; accuracies and sparsities are fractions 0-1."""
    rule = choice.rule
    return {
        "version": 1,
        "rule": {
            "retain": rule.retain,
            "max_drop": rule.max_drop,
            "max_size_mb": rule.max_size_mb,
            "max_latency_p90_ms": rule.max_latency_ms,
            "max_memory_mb": rule.max_memory_mb,
        },
        "dense": spread_json(choice.dense),
        "dense_longer": spread_json(choice.longer),
        "threshold": choice.threshold,
        "picked": _picked_json(choice.picked) if choice.picked else None,
        "nearest": _rejected_json(choice.nearest) if choice.nearest else None,
        "rejected": [_rejected_json(each) for each in choice.rejected],
        "front": [vars(each) for each in choice.front],
        "files": [_point_json(each) for each in choice.files],
        "doubts": list(choice.doubts),
        "study_complete": choice.is_final,
    }


def spread_json(spread: Spread | None) -> dict[str, Any] | None:
    """Mean, sample standard deviation (null with one seed) and the value of each seed."""
    if spread is None:
        return None
    by_seed = {str(seed): value for seed, value in spread.by_seed.items()}
    return {"mean": spread.mean, "std": spread.std, "by_seed": by_seed}


def _picked_json(picked: PickedTicket) -> dict[str, Any]:
    return {
        **_key_json(picked.group.key),
        "achieved": picked.group.achieved.mean,
        "accuracy": spread_json(picked.group.retrained.overall),
        "interval": picked.interval,
        "paired": spread_json(picked.group.paired),
        "retained": picked.group.retained,
        "cell": picked.cell,
        "seed": picked.seed,
        "ticket": picked.ticket.as_posix(),
        "artifact": picked.cost.folder.as_posix() if picked.cost else None,
        "predicted": _predicted_json(picked.predicted) if picked.predicted and not picked.cost else None,
        "commands": list(picked.commands),
        "file": _point_json(candidate_of(picked.cost)) if picked.cost else None,
        "beside": [_point_json(each) for each in picked.others],
        "free": _point_json(picked.free) if picked.free else None,
        "missing_twins": list(picked.missing_twins),
    }


def _predicted_json(file: Prediction) -> dict[str, Any]:
    return {"format": file.format, "precision": file.precision, "size_mb": file.size_mb, "command": file.command}


def _point_json(each: CandidateFile) -> dict[str, Any]:
    artifact = each.cost.artifact
    return {
        "artifact": each.cost.folder.as_posix(),
        "role": each.role,
        "cell": artifact.cell,
        "format": artifact.format,
        "precision": artifact.precision,
        "accuracy": each.accuracy,
        "size_mb": each.size_mb,
        "latency_p90_ms": each.latency_ms,
        "memory_mb": each.memory_mb,
    }


def _rejected_json(rejected: RejectedGroup) -> dict[str, Any]:
    return {
        **_key_json(rejected.key),
        "achieved": rejected.achieved,
        "accuracy": rejected.accuracy,
        "interval": rejected.interval,
        "broken": list(rejected.broken),
        "reasons": list(rejected.reasons),
        "commands": list(rejected.commands),
    }


def _key_json(key: GroupKey) -> dict[str, Any]:
    method = key.method
    return {
        "method": method.id,
        "criterion": method.criterion,
        "granularity": method.granularity,
        "target": key.target,
    }


_CONTROL = Violation("control", "a control: there to compare with, never to ship", 1)


def _judge(group: SeedGroup, summary: RunSummary, rule: Rule, threshold: float | None) -> _Judged:
    """Every constraint that `group` breaks, and its artifact that breaks the fewest: one must satisfy all limits."""
    if group.key.method.is_control:
        return _Judged(group, group.key.label, (_CONTROL,), None)
    broken = [
        *_broken_protocol(summary),
        *_broken_completeness(group),
        *_broken_accuracy(group, summary, rule, threshold),
    ]
    is_twin = any(each is group for each in summary.twins)
    label = f"the structured twin at {short_percent(group.key.target)} %" if is_twin else group.key.label
    result = _result_of(summary, group)
    predicted = predict_files(summary, result, ticket_of(summary, group)) if result else []
    costs = _costs_of(group, summary)
    # Another seed's file stands in only while the ticket to ship has none: seeds differ in values, not in shape.
    own = [cost for cost in costs if result and cost.artifact.cell == result.cell] or costs
    tried: list[tuple[list[Violation], ExportedArtifact | Prediction]] = [
        *((_broken_limits(cost, group, rule, threshold), cost) for cost in own),
        *((_broken_predicted(each, rule, usual=summary.recipe.export.format), each) for each in predicted),
    ]
    everything = tried
    if not tried:
        return _Judged(group, label, tuple(broken), None)
    if broken or not rule.has_limits:  # a file that is there goes before one that is not
        tried = [(found, file) for found, file in tried if isinstance(file, ExportedArtifact)] or tried
    least, file = min(tried, key=lambda pair: (len(pair[0]), *_distance(pair[0]), _speed_key(pair[1])))
    fits = [each for found, each in tried if isinstance(each, ExportedArtifact) and not found]
    if fits:
        file = _best_file(fits)
    fitting = len(fits)
    # What a file that is not made would break is of no use where the ticket itself breaks the rule.
    is_open = isinstance(file, Prediction) and any(each.commands for each in least)
    checks = rule.has_limits and not (broken and is_open)
    possible = tuple(file for found, file in everything if isinstance(file, Prediction) and not found)
    return _Judged(group, label, (*broken, *(least if checks else ())), file, fitting, possible)


def ticket_of(summary: RunSummary, group: SeedGroup) -> Path:
    """Return the folder of a group's ticket to ship: of the grid, or drawn beside it."""
    folder = "twins" if any(each is group for each in summary.twins) else "tickets"
    return summary.root / folder / group.key.cell(group.best_seed).id


def _result_of(summary: RunSummary, group: SeedGroup) -> Result | None:
    """Return the result of a group's ticket to ship."""
    cell = group.key.cell(group.best_seed).id
    return next((each for each in (*summary.results, *summary.twin_results) if each.cell == cell), None)


def _distance(broken: Sequence[Violation]) -> tuple[float, float]:
    """Return how far a file is from its limits: what is only to be measured is nearer than what is over one."""
    return sum(each.shortfall for each in broken), -sum(bool(each.commands) for each in broken)


def _speed_key(file: ExportedArtifact | Prediction) -> tuple[int, float, float]:
    """Of the files that fit: measured ones first, the fastest, then the smallest, those of a known accuracy first.

    Files that are not there yet come last, in the order in which they are predicted.
    """
    if isinstance(file, Prediction):
        return 3, 0.0, 0.0
    if file.fresh:
        return 0, latency_ms(file.fresh).p90, file.size_mb
    return (2 if file.artifact.accuracy is None else 1), 0.0, file.size_mb


def _best_file(files: Sequence[ExportedArtifact]) -> ExportedArtifact:
    """Return the smallest of the files that are not slower than the fastest, beyond what their benches can tell."""
    fastest = min(files, key=_speed_key)
    if fastest.fresh is None:
        return fastest
    quick = [each for each in files if each is fastest or (each.fresh and not is_slower(each, fastest))]
    return min(quick, key=lambda each: (each.size_mb, _speed_key(each)))


def _broken_predicted(file: Prediction, rule: Rule, *, usual: str) -> list[Violation]:
    """Return the limits that a file will break, or is not known to satisfy, before it is made."""
    broken = []
    if file.missing:
        broken.append(Violation("extra", f"{file.name} {file.missing}", 1))
    if rule.max_size_mb is not None:
        broken += (
            [Violation("export", f"{file.name}: not exported, so its size is not known", 0, (file.command,))]
            if file.size_mb is None
            else _check_limit("size", f"{file.name} (predicted): size on disk", file.size_mb, rule.max_size_mb, "MB")
        )
    if rule.max_latency_ms is None and rule.max_memory_mb is None:
        return broken
    sibling = file.sibling
    if sibling is not None and sibling.fresh is not None:
        like = f"{file.name} (predicted as {sibling.artifact.name})"
        if rule.max_latency_ms is not None:
            found = latency_ms(sibling.fresh).p90
            broken += _check_limit("latency", f"{like}: p90 latency", found, rule.max_latency_ms, "ms")
        if rule.max_memory_mb is not None and sibling.fresh.peak_bytes is not None:
            found = sibling.fresh.peak_bytes / 1e6
            broken += _check_limit("memory", f"{like}: peak memory", found, rule.max_memory_mb, "MB")
    if not broken and file.precision not in QUICK:
        broken.append(Violation("measurement", f"{file.name}: is no faster than int8", 1))
    elif not broken:
        commands = (file.command, bench_command(file.folder))
        far = 0.0 if file.format == usual else 1e-6  # what the recipe exports goes first
        broken.append(
            Violation("export", f"{file.name}: not exported, so its speed and memory are not known", far, commands)
        )
    return broken


def _broken_protocol(summary: RunSummary) -> list[Violation]:
    if has_tickets(summary.recipe):
        return []
    return [Violation("protocol", "no ticket: its mask was applied once, so retraining made it dense again", 1)]


def _broken_completeness(group: SeedGroup) -> list[Violation]:
    if group.is_complete:
        return []
    return [Violation("seeds", f"incomplete: {numbered('seed', group.missing)} not finished", len(group.missing))]


def _broken_accuracy(group: SeedGroup, summary: RunSummary, rule: Rule, threshold: float | None) -> list[Violation]:
    mean = group.retrained.overall.mean
    broken = []
    if threshold is not None and mean < threshold - ROUNDING:
        kept = f" ({percent(group.retained)} % kept)" if group.retained is not None else ""
        reason = f"accuracy {percent(mean)} %{kept} is below {percent(threshold)} % ({rule.accuracy_words})"
        broken.append(Violation("accuracy", reason, (threshold - mean) / threshold if threshold > 0 else 1))
    if group.retained is None and group.is_complete:
        broken.append(Violation("accuracy", "dense accuracy is 0: there is nothing to keep", 1))
    if summary.floors is not None:
        name, floor = highest_floor(summary.floors)
        if mean <= floor:
            reason = f"accuracy {percent(mean)} % is no better than the {name} floor of {percent(floor)} %"
            broken.append(Violation("floor", reason, (floor - mean) / floor if floor > 0 else 0))
    return broken


def _broken_limits(cost: ExportedArtifact, group: SeedGroup, rule: Rule, threshold: float | None) -> list[Violation]:
    """The limits that one artifact breaks; an export that loses accuracy is charged for it."""
    name = cost.artifact.name
    broken = []
    if rule.max_size_mb is not None:
        broken += _check_limit("size", f"{name}: size on disk", cost.size_mb, rule.max_size_mb, "MB")
    measured = cost.fresh
    if measured is None and (rule.max_latency_ms is not None or rule.max_memory_mb is not None):
        why = "was exported again after it was measured" if cost.is_stale else "is not measured"
        broken.append(Violation("measurement", f"{name} {why}", 0, (bench_command(cost.folder),)))
    if measured is not None and rule.max_latency_ms is not None:
        latency = latency_ms(measured).p90
        broken += _check_limit("latency", f"{name}: p90 latency", latency, rule.max_latency_ms, "ms")
    if measured is not None and rule.max_memory_mb is not None and measured.peak_bytes is None:
        broken.append(Violation("measurement", f"{name}: its memory is not known where it was measured", 0))
    elif measured is not None and rule.max_memory_mb is not None:
        broken += _check_limit("memory", f"{name}: peak memory", measured.peak_bytes / 1e6, rule.max_memory_mb, "MB")
    return broken + _broken_export(cost, group, threshold)


def _broken_export(cost: ExportedArtifact, group: SeedGroup, threshold: float | None) -> list[Violation]:
    """Whether what the export costs in accuracy takes the group below a threshold that its tickets reach."""
    mean = group.retrained.overall.mean
    exported = mean + min(0.0, cost.accuracy_change or 0.0)
    if threshold is None or not exported < threshold - ROUNDING <= mean:
        return []
    reason = (
        f"{cost.artifact.name}: the export costs accuracy, which leaves {percent(exported)} % "
        f"where {percent(threshold)} % is asked"
    )
    return [Violation("export accuracy", reason, (threshold - exported) / threshold)]


def _check_limit(constraint: str, thing: str, value: float, limit: float, unit: str) -> list[Violation]:
    if value <= limit:
        return []
    return [
        Violation(
            constraint, f"{thing} {_figure(value)} {unit} is over {limit:g} {unit}", (value - limit) / (limit or 1)
        )
    ]


def _figure(value: float) -> str:
    """Three significant digits or more, never an exponent: 0.123, 45.6, 1234."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _preference(judged: _Judged) -> tuple[float, float, float]:
    """Return a key by which a group is preferred: sparser first, then the smaller model, then the more accurate."""
    group = judged.group
    parameters = -group.parameters if group.parameters is not None else -math.inf
    return round(group.achieved.mean / STEP), round(parameters, -3), group.retrained.overall.mean


def _costs_of(group: SeedGroup, summary: RunSummary) -> list[ExportedArtifact]:
    """The artifacts of the group's tickets, that of the ticket to ship first."""
    cells = [group.key.cell(seed).id for seed in (group.best_seed, *group.seeds)]
    costs = [cost for cost in summary.costs if cost.artifact.cell in cells]
    return sorted(costs, key=lambda cost: cells.index(cost.artifact.cell))


def _ship(judged: _Judged, summary: RunSummary) -> PickedTicket:
    group = judged.group
    cell = group.key.cell(group.best_seed).id
    file = judged.file
    cost = file if isinstance(file, ExportedArtifact) and file.artifact.cell == cell else None
    beside = alternatives(summary.costs, cell, group.best_seed)
    ticket = ticket_of(summary, group)
    predicted = file if isinstance(file, Prediction) else None
    free = best_free_alternative(candidate_of(cost), beside) if cost else None
    better = _better_than_free(judged, free) if free else None
    if better is not None:
        cost, free, predicted = None, None, better
    return PickedTicket(
        group=group,
        label=judged.label,
        seed=group.best_seed,
        cell=cell,
        ticket=ticket,
        cost=cost,
        predicted=predicted,
        commands=_next_commands(summary.root, ticket, cost, predicted, beside),
        fitting=judged.fitting,
        others=tuple(beside),
        free=free,
    )


def _better_than_free(judged: _Judged, free: CandidateFile) -> Prediction | None:
    """Return the file to make where dense int8 is as good as all that is exported of a ticket, but not as that one."""
    format, size_mb = free.cost.artifact.format, free.size_mb * (1 - STEP)
    like = [each for each in judged.predicted if each.format == format and each.size_mb is not None]
    return next((each for each in like if each.size_mb is not None and each.size_mb < size_mb), None)


def _next_commands(
    root: Path,
    ticket: Path,
    cost: ExportedArtifact | None,
    predicted: Prediction | None,
    beside: Sequence[CandidateFile],
) -> tuple[str, ...]:
    """Return what is still to do before the ticket can be shipped; nothing once it is exported and measured."""
    if cost is None and predicted is None:
        return export_commands(ticket)
    if cost is None and predicted is not None:
        free = [each for each in beside if each.role == DENSE_INT8 and each.cost.artifact.format == predicted.format]
        if free or predicted.precision not in ("int8", default_precision(predicted.format)):
            return predicted.command, bench_command(predicted.folder, *(each.cost.folder for each in free))
        # One command makes the file and what it has to be compared with.
        format = "" if predicted.format == "onnx" else f" --format {predicted.format}"
        return f"lxcompress export {_quoted(ticket)} --twins{format}", f"lxcompress bench {_quoted(root)}/artifacts/*"
    assert cost is not None
    if cost.fresh or not list_serving(cost.artifact.format):
        return ()
    like = [each.cost.folder for each in beside if each.cost != cost and list_serving(each.cost.artifact.format)]
    return (bench_command(cost.folder, *like),)


def export_commands(ticket: Path) -> tuple[str, str]:
    """Return what exports a ticket and measures it."""
    folder = ticket.parent.parent / "artifacts" / f"{ticket.name}-onnx"
    return f"lxcompress export {_quoted(ticket)} --onnx --out {_quoted(folder)}", bench_command(folder)


def bench_command(*folders: Path) -> str:
    """What measures the artifacts in `folders`, side by side."""
    return f"lxcompress bench {' '.join(map(_quoted, folders))}"


def _quoted(path: Path) -> str:
    return shlex.quote(path.as_posix())


def _nearest(judged: Sequence[_Judged]) -> RejectedGroup | None:
    """The complete group that broke the fewest constraints, by the least; the sparser one of equals. No control."""
    tickets = [each for each in judged if not each.group.key.method.is_control]
    complete = [each for each in tickets if each.group.is_complete] or tickets

    def distance(each: _Judged) -> tuple[int, float, float]:
        return len(each.broken), max(broken.shortfall for broken in each.broken), -each.group.achieved.mean

    return _rejected(min(complete, key=distance), None) if complete else None


def _reject(judged: Sequence[_Judged], unstarted: Sequence[GroupKey], best: _Judged | None) -> list[RejectedGroup]:
    rejected = [_rejected(each, best) for each in judged if each is not best]
    return rejected + [_not_begun(key) for key in unstarted]


def _not_begun(key: GroupKey) -> RejectedGroup:
    if key.method.is_control:
        return RejectedGroup(key, key.label, None, None, (_CONTROL.constraint,), (_CONTROL.reason,))
    return RejectedGroup(key, key.label, None, None, ("seeds",), ("incomplete: no cell is finished",))


def _rejected(judged: _Judged, best: _Judged | None) -> RejectedGroup:
    can_still_win = all(broken.commands for broken in judged.broken)
    return RejectedGroup(
        key=judged.group.key,
        label=judged.label,
        achieved=judged.group.achieved.mean,
        accuracy=judged.group.retrained.overall.mean,
        broken=tuple(broken.constraint for broken in judged.broken),
        reasons=tuple(broken.reason for broken in judged.broken) or (_beaten(judged, best),),
        commands=tuple(command for broken in judged.broken for command in broken.commands) if can_still_win else (),
        shortfalls=tuple(broken.shortfall for broken in judged.broken),
        interval=mean_interval(list(judged.group.retrained.overall.by_seed.values())),
    )


def _beaten(judged: _Judged, best: _Judged | None) -> str:
    assert best is not None, "a group that breaks nothing is rejected only for a better one"
    mine, its = judged.group, best.group
    steps, sizes = [_preference(each)[0] for each in (judged, best)], [_preference(each)[1] for each in (judged, best)]
    if steps[0] < steps[1]:
        least, most = percent(mine.achieved.mean, 1), percent(its.achieved.mean, 1)
        return f"less sparse than the pick ({least} % < {most} %)"
    if sizes[0] < sizes[1] and mine.parameters and its.parameters:
        weights = f"{mine.parameters / 1e6:.3g} against {its.parameters / 1e6:.3g} million weights"
        return f"as sparse as the pick, but not a smaller model ({weights})"
    accuracies = [percent(each.retrained.overall.mean) for each in (mine, its)]
    return f"as sparse as the pick and not more accurate ({accuracies[0]} % against {accuracies[1]} %)"


def _doubts(picked: PickedTicket, summary: RunSummary, rule: Rule, threshold: float | None) -> list[str]:
    """What should make one hesitate before shipping the pick."""
    group = picked.group
    assert threshold is not None
    assert summary.dense is not None
    doubts = list(summary.doubts)
    doubts += _narrow(f"threshold of {percent(threshold)} %", _margins(group, summary.dense.overall, rule))
    if picked.interval and picked.interval[0] < threshold:
        low = percent(picked.interval[0])
        doubts.append(f"over {len(group.seeds)} seeds the mean may be as low as {low} %, below the threshold")
    if summary.floors is not None:
        for name, floor in named_floors(summary.floors):
            scores = group.retrained.overall.by_seed
            margins = Spread({seed: score - floor for seed, score in scores.items()})
            doubts += _narrow(f"{name} floor of {percent(floor)} %", margins)
    if not summary.is_complete:
        doubts.append("the study is not finished: a sparser ticket may still come")
    if picked.cost is not None:
        artifact = picked.cost.artifact
        doubts += [f"{artifact.format} {artifact.precision}: {doubt}" for doubt in picked.cost.doubts]
        doubts += [broken.reason for broken in _broken_export(picked.cost, group, threshold)]
    elif picked.predicted is not None:
        if rule.has_limits:
            doubts.append("the file is not exported yet: its size is predicted, its accuracy not known")
    elif rule.has_limits:
        doubts.append("the limits were checked against another seed's file of this group, not the ticket to ship")
    if len(group.seeds) == 1 and len(summary.recipe.seeds) > 1:
        doubts.append(f"the structured twin has seed {group.seeds[0]} alone: no spread of its accuracy is known")
    if (
        rule.max_latency_ms is not None
        or rule.max_memory_mb is not None
        or any(each.latency_ms for each in picked.others)
    ):
        doubts += mixed_measurements(summary)
    return doubts


def _margins(group: SeedGroup, dense: Spread, rule: Rule) -> Spread:
    """How far each seed's ticket is above what its own dense run asks of it."""
    scores = group.retrained.overall.by_seed
    return Spread({seed: score - rule.threshold(dense.by_seed[seed]) for seed, score in scores.items()})


def _narrow(name: str, margins: Spread) -> list[str]:
    error = margins.standard_error
    if error is None or margins.mean >= error:
        return []
    return [
        f"the margin over the {name} ({percent(margins.mean)} points) is smaller than its standard error "
        f"({percent(error)} points)"
    ]


def mixed_measurements(summary: RunSummary) -> list[str]:
    """Doubts about comparing the run's measurements with each other."""
    fresh = [cost.fresh for cost in summary.costs if cost.fresh is not None]
    doubts = []
    if len({(each.machine.processor, each.machine.cores, each.machine.system) for each in fresh}) > 1:
        doubts.append("the artifacts were measured on different machines: their times do not compare")
    tasks = {(each.task.threads, each.task.batch, each.task.tokens, each.task.objects) for each in fresh}
    if len(tasks) > 1:
        doubts.append(
            "the artifacts were measured at different tasks (threads, batch or lengths): their times do not compare"
        )
    return doubts
