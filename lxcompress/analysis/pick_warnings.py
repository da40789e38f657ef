"""The warnings that a user should read before shipping the picked ticket."""

from __future__ import annotations

from lxcompress.analysis.artifacts import mixed_measurements
from lxcompress.analysis.choice import PickedTicket
from lxcompress.analysis.constraints import check_export
from lxcompress.analysis.floors import named_floors
from lxcompress.analysis.groups import SeedGroup, Spread
from lxcompress.analysis.rule import Rule
from lxcompress.analysis.summary import RunSummary
from lxcompress.units import percent


def pick_warnings(picked: PickedTicket, summary: RunSummary, rule: Rule, threshold: float) -> list[str]:
    """Return the warnings about the picked ticket, first those of its study; `threshold` is the required accuracy."""
    warnings = [
        *summary.warnings,
        *_accuracy_warnings(picked, summary, rule, threshold),
        *_file_warnings(picked, rule, threshold),
    ]
    group = picked.group
    if len(group.seeds) == 1 and len(summary.recipe.seeds) > 1:
        warnings.append(f"the structured twin has seed {group.seeds[0]} alone: no spread of its accuracy is known")
    if rule.needs_measurement or any(other.latency_ms for other in picked.others):
        warnings += mixed_measurements(summary.artifacts)
    return warnings


def narrow_margin(name: str, margins: Spread) -> list[str]:
    """Return a warning if the mean margin over `name` is smaller than its standard error; nothing with one seed."""
    error = margins.standard_error
    if error is None or margins.mean >= error:
        return []
    return [
        f"the margin over the {name} ({percent(margins.mean)} points) is smaller than its standard error "
        f"({percent(error)} points)"
    ]


def _accuracy_warnings(picked: PickedTicket, summary: RunSummary, rule: Rule, threshold: float) -> list[str]:
    """Return the warnings about the accuracy: narrow margins over threshold and floors, and an unfinished study."""
    group = picked.group
    assert summary.dense is not None
    scores = group.retrained.overall.by_seed
    warnings = narrow_margin(f"threshold of {percent(threshold)} %", _margins(group, summary.dense.overall, rule))
    if picked.interval and picked.interval[0] < threshold:
        low = percent(picked.interval[0])
        warnings.append(f"over {len(group.seeds)} seeds the mean may be as low as {low} %, below the threshold")
    for name, floor in named_floors(summary.floors) if summary.floors is not None else ():
        margins = Spread({seed: score - floor for seed, score in scores.items()})
        warnings += narrow_margin(f"{name} floor of {percent(floor)} %", margins)
    if not summary.is_complete:
        warnings.append("the study is not finished: a sparser ticket may still come")
    return warnings


def _file_warnings(picked: PickedTicket, rule: Rule, threshold: float) -> list[str]:
    """Return the warnings about the file to ship, such as a file that is not exported yet."""
    exported = picked.exported
    if exported is not None:
        artifact = exported.artifact
        warnings = [f"{artifact.format} {artifact.precision}: {warning}" for warning in exported.warnings]
        return warnings + [broken.reason for broken in check_export(exported, picked.group, threshold)]
    if not rule.has_limits:
        return []
    if picked.predicted is not None:
        return ["the file is not exported yet: its size is predicted, its accuracy is not known"]
    return ["the limits were checked on another seed's file of this group, not on the ticket to ship"]


def _margins(group: SeedGroup, dense: Spread, rule: Rule) -> Spread:
    """Return for each seed the accuracy of the ticket minus the threshold that the dense run of this seed gives."""
    scores = group.retrained.overall.by_seed
    return Spread({seed: score - rule.threshold(dense.by_seed[seed]) for seed, score in scores.items()})
