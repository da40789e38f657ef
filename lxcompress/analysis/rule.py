"""The rule by which a ticket is picked: the accuracy that it must keep, and limits on its file."""

from __future__ import annotations

from dataclasses import dataclass

from lxcompress.analysis.summary import RunSummary
from lxcompress.units import short_percent

USUAL_COVERAGE = 0.8
"""The share of the questions that a model answers where the rule limits the risk and names no coverage."""


@dataclass(frozen=True)
class Rule:
    """The limits that a ticket must satisfy to be picked. Give either `retain` or `max_drop`.

    The mean accuracy must be at least `retain` times the dense mean, or at least the dense mean minus `max_drop`. The
    other limits are optional. Sizes are in MB of 10^6 bytes. Latency is the 90th percentile for one answer, in ms.
    Memory is the peak of the process, in MB. `max_risk` is the largest risk (share of wrong answers, 0-1) among the
    share `coverage` of the questions that the model is most sure of. `max_flips` is the largest share of the questions
    (0-1) that dense answers right and the ticket wrong.
    """

    retain: float | None = None
    max_drop: float | None = None
    max_size_mb: float | None = None
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None
    max_risk: float | None = None
    coverage: float = USUAL_COVERAGE
    max_flips: float | None = None

    def __post_init__(self) -> None:
        assert (self.retain is None) != (self.max_drop is None), "give retain or max_drop, not both"

    @property
    def has_limits(self) -> bool:
        """Return whether the rule limits the size, latency, memory, risk or changed answers of a file."""
        limits = (self.max_size_mb, self.max_latency_ms, self.max_memory_mb, self.max_risk, self.max_flips)
        return any(limit is not None for limit in limits)

    @property
    def needs_reliability(self) -> bool:
        """Return whether the rule can be checked only for a model whose reliability was measured."""
        return self.max_risk is not None or self.max_flips is not None

    @property
    def needs_measurement(self) -> bool:
        """Return whether the rule can be checked only for a file that was measured."""
        return self.max_latency_ms is not None or self.max_memory_mb is not None

    @property
    def accuracy_words(self) -> str:
        """The required accuracy as a phrase, such as "at least 99 % of dense accuracy"."""
        if self.retain is not None:
            return f"at least {short_percent(self.retain)} % of dense accuracy"
        drop = short_percent(self.max_drop or 0)
        return f"all but {drop} {'point' if drop == '1' else 'points'} of dense accuracy"

    @property
    def words(self) -> str:
        """The rule as a phrase: "at least 99 % of dense accuracy within 50 MB on disk and 80 ms p90 latency"."""
        limits = [
            f"{limit:g} {unit}"
            for limit, unit in (
                (self.max_size_mb, "MB on disk"),
                (self.max_latency_ms, "ms p90 latency"),
                (self.max_memory_mb, "MB peak memory"),
            )
            if limit is not None
        ]
        if self.max_risk is not None:
            limits.append(f"a risk of {short_percent(self.max_risk)} % at {short_percent(self.coverage)} % coverage")
        if self.max_flips is not None:
            limits.append(f"{short_percent(self.max_flips)} % of answers that pruning made wrong")
        return self.accuracy_words + (f" within {' and '.join(limits)}" if limits else "")

    def threshold(self, dense: float) -> float:
        """Return the accuracy (0-1) that a ticket must reach if the dense model has the accuracy `dense`."""
        return dense * self.retain if self.retain is not None else dense - (self.max_drop or 0)


def default_rule(summary: RunSummary) -> Rule:
    """Return the rule of the run's recipe."""
    return Rule(retain=summary.recipe.pick.retain)
