"""The constraints of a rule: which of them a group of runs or a file violates, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lxcompress.analysis.artifacts import ExportedArtifact
from lxcompress.analysis.commands import bench_command, reliability_command
from lxcompress.analysis.floors import highest_floor
from lxcompress.analysis.groups import SeedGroup
from lxcompress.analysis.prediction import Prediction
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.reliability import Reliability, file_reliability, group_reliability
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.words import numbered
from lxcompress.records import Floors
from lxcompress.units import percent, short_percent

# This is for the rounding of floats, not a tolerance: in floats, 0.70 - 0.01 is a little more than 0.69.
ROUNDING = 1e-9
QUICK = ("int8", "fp32")
"""The precisions to export if the rule limits time or memory: on common processors the others are not faster."""
LATER = 1e-6
"""The shortfall of an unmeasured file in a format other than the recipe's; so the recipe's format comes first."""


@dataclass(frozen=True)
class Violation:
    """A constraint that a group of runs or a file violates.

    `shortfall` says how far it is from the constraint, relative to the constraint. If the constraint cannot be checked
    yet, `commands` are the commands that export and measure what must be known first.
    """

    constraint: str
    reason: str
    shortfall: float
    commands: tuple[str, ...] = ()


CONTROL = Violation("control", "a control: it is there to compare with and is never shipped", 1)


def check_group(group: SeedGroup, summary: RunSummary, rule: Rule, threshold: float | None) -> list[Violation]:
    """Return the constraints that a group of runs violates, apart from the limits on its files."""
    if group.key.method.is_control:
        return [CONTROL]
    return [
        *_check_protocol(summary),
        *_check_complete(group),
        *_check_accuracy(group, rule, threshold),
        *(_check_reliability(group_reliability(summary, group), summary, rule) if rule.needs_reliability else []),
        *(_check_floor(group.retrained.overall.mean, summary.floors) if summary.floors is not None else []),
    ]


def check_exported(exported: ExportedArtifact, summary: RunSummary, rule: Rule) -> list[Violation]:
    """Return the limits on the risk and on the changed answers that one artifact violates."""
    if not rule.needs_reliability:
        return []
    return _check_reliability(file_reliability(summary, exported.name), summary, rule)


def check_file(exported: ExportedArtifact, group: SeedGroup, rule: Rule, threshold: float | None) -> list[Violation]:
    """Return the limits on costs that one artifact violates. An export that loses too much accuracy is one too."""
    name = exported.name
    broken = []
    if rule.max_size_mb is not None:
        broken += check_limit("size", f"{name}: size on disk", exported.size_mb, rule.max_size_mb, "MB")
    measured = exported.fresh
    if measured is None and rule.needs_measurement:
        why = "was exported again after it was measured" if exported.is_stale else "is not measured"
        broken.append(Violation("measurement", f"{name} {why}", 0, (bench_command(exported.folder),)))
    if exported.latency_p90_ms is not None and rule.max_latency_ms is not None:
        latency = exported.latency_p90_ms
        broken += check_limit("latency", f"{name}: p90 latency", latency, rule.max_latency_ms, "ms")
    if measured is not None and rule.max_memory_mb is not None:
        if exported.peak_mb is None:
            broken.append(Violation("measurement", f"{name}: the bench could not measure its memory", 0))
        else:
            broken += check_limit("memory", f"{name}: peak memory", exported.peak_mb, rule.max_memory_mb, "MB")
    return broken + check_export(exported, group, threshold)


def check_export(exported: ExportedArtifact, group: SeedGroup, threshold: float | None) -> list[Violation]:
    """Return a violation if the export loses so much accuracy that the group falls below the threshold."""
    mean, change = group.retrained.overall.mean, exported.accuracy_change
    if threshold is None or change is None or not mean + change < threshold - ROUNDING <= mean:
        return []
    left = mean + change
    reason = (
        f"{exported.name}: the export costs accuracy, which leaves {percent(left)} %, "
        f"but the rule asks for {percent(threshold)} %"
    )
    return [Violation("export accuracy", reason, (threshold - left) / threshold)]


def check_prediction(file: Prediction, rule: Rule, *, usual: str) -> list[Violation]:
    """Return the limits that a file not exported yet will violate, or may violate; `usual` is the recipe's format."""
    broken = []
    if file.missing:
        broken.append(Violation("extra", f"{file.name} {file.missing}", 1))
    if rule.max_size_mb is not None:
        if file.size_mb is None:
            reason = f"{file.name}: not exported, so its size is not known"
            broken.append(Violation("export", reason, 0, (file.command,)))
        else:
            thing = f"{file.name} (predicted): size on disk"
            broken += check_limit("size", thing, file.size_mb, rule.max_size_mb, "MB")
    if not rule.needs_measurement:
        return broken
    broken += _check_sibling(file, rule)
    if not broken and file.precision not in QUICK:
        broken.append(Violation("measurement", f"{file.name}: is no faster than int8", 1))
    elif not broken:
        reason = f"{file.name}: not exported, so its speed and memory are not known"
        commands = (file.command, bench_command(file.folder))
        broken.append(Violation("export", reason, 0.0 if file.format == usual else LATER, commands))
    return broken


def check_limit(constraint: str, thing: str, value: float, limit: float, unit: str) -> list[Violation]:
    """Return a violation if `value` is greater than `limit`; else nothing. An equal value is allowed."""
    if value <= limit:
        return []
    reason = f"{thing} {figure(value)} {unit} is over {limit:g} {unit}"
    return [Violation(constraint, reason, (value - limit) / (limit or 1))]


def total_shortfall(broken: Sequence[Violation]) -> tuple[float, float]:
    """Return a sort key: smaller violations come first; of equal ones, those that need only a measurement."""
    return sum(found.shortfall for found in broken), -sum(bool(found.commands) for found in broken)


def figure(value: float) -> str:
    """Return a number with three significant digits or more, never with an exponent: 0.123, 45.6, 1234."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _check_protocol(summary: RunSummary) -> list[Violation]:
    """Return a violation if the retrained models of the run are not tickets; else nothing."""
    if has_tickets(summary.recipe):
        return []
    return [Violation("protocol", "no ticket: its mask was applied once, so retraining made it dense again", 1)]


def _check_complete(group: SeedGroup) -> list[Violation]:
    """Return a violation if a seed of the group is not finished; else nothing."""
    if group.is_complete:
        return []
    return [Violation("seeds", f"incomplete: {numbered('seed', group.missing)} not finished", len(group.missing))]


def _check_accuracy(group: SeedGroup, rule: Rule, threshold: float | None) -> list[Violation]:
    """Return the violations of the required accuracy; `threshold` is None while the dense runs are not finished."""
    mean = group.retrained.overall.mean
    broken = []
    if threshold is None and group.is_complete:  # a twin: the dense run of its seed is finished, that of another is not
        broken.append(Violation("accuracy", "the dense baseline is not finished for every seed", 1))
    if threshold is not None and mean < threshold - ROUNDING:
        kept = f" ({percent(group.retained)} % kept)" if group.retained is not None else ""
        reason = f"accuracy {percent(mean)} %{kept} is below {percent(threshold)} % ({rule.accuracy_words})"
        broken.append(Violation("accuracy", reason, (threshold - mean) / threshold))
    if group.retained is None and group.is_complete:
        broken.append(Violation("accuracy", "the dense accuracy is 0, so no share of it can be kept", 1))
    return broken


def _check_floor(mean: float, floors: Floors) -> list[Violation]:
    """Return a violation if the mean accuracy of a group is not above the highest floor; else nothing."""
    name, floor = highest_floor(floors)
    if mean > floor:
        return []
    reason = f"accuracy {percent(mean)} % is no better than the {name} floor of {percent(floor)} %"
    return [Violation("floor", reason, (floor - mean) / floor if floor > 0 else 0)]


def _check_reliability(found: Reliability, summary: RunSummary, rule: Rule) -> list[Violation]:
    """Return the limits on the risk and on the changed answers that a group or a file violates."""
    flips = found.flips if rule.max_flips is not None else 0.0
    if not found.answers or found.missing or flips is None:
        reason = f"{found.label}: its reliability is not measured"
        return [Violation("reliability", reason, 0, (reliability_command(summary.root),))]
    broken = []
    if rule.max_risk is not None:
        coverage = short_percent(rule.coverage)
        thing, risk = f"{found.label}: the risk at {coverage} % coverage", found.risk_at(rule.coverage)
        broken += _check_share("risk", thing, risk, rule.max_risk)
    if rule.max_flips is not None:
        thing = f"{found.label}: the share of answers that are right with dense and wrong here"
        broken += _check_share("changed answers", thing, flips, rule.max_flips)
    return broken


def _check_share(constraint: str, thing: str, value: float, limit: float) -> list[Violation]:
    """Return a violation if the share `value` (0-1) is greater than `limit`; else nothing."""
    if value <= limit + ROUNDING:
        return []
    reason = f"{thing}, {percent(value)} %, is over {percent(limit)} %"
    return [Violation(constraint, reason, (value - limit) / (limit or 1))]


def _check_sibling(file: Prediction, rule: Rule) -> list[Violation]:
    """Return the limits on time and memory that `file` will violate, judged by its sibling.

    The sibling is a measured file that takes as much time and memory as `file` will.
    """
    sibling = file.sibling
    if sibling is None or sibling.fresh is None:
        return []
    thing, broken = f"{file.name} (predicted as {sibling.name})", []
    if rule.max_latency_ms is not None and sibling.latency_p90_ms is not None:
        latency = sibling.latency_p90_ms
        broken += check_limit("latency", f"{thing}: p90 latency", latency, rule.max_latency_ms, "ms")
    if rule.max_memory_mb is not None and sibling.peak_mb is not None:
        broken += check_limit("memory", f"{thing}: peak memory", sibling.peak_mb, rule.max_memory_mb, "MB")
    return broken
