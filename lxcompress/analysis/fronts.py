"""The Pareto fronts of a run: the front of the tickets, and the front of the exported files."""

from __future__ import annotations

import math

from lxcompress.analysis.alternatives import CandidateFile, candidate_of
from lxcompress.analysis.choice import FrontPoint
from lxcompress.analysis.methods import tabulate
from lxcompress.analysis.protocol import has_tickets
from lxcompress.analysis.summary import RunSummary
from lxcompress.stats import pareto_front


def ticket_front(summary: RunSummary) -> list[FrontPoint]:
    """Return the complete groups of runs, and the dense model, that are Pareto-optimal in accuracy and sparsity.

    If some groups see fewer regions, the operations for one question count too: those groups remove no weight.
    """
    groups = [group for group in summary.groups if group.is_complete and not group.key.method.is_control]
    counts_work = any(group.key.method.regions for group in groups)
    points = [
        (FrontPoint(group.key.label, group.retrained.overall.mean, group.achieved.mean), group.flops)
        for group in groups
        if has_tickets(summary.recipe)
    ]
    if summary.dense and not summary.dense_missing:
        points.insert(0, (FrontPoint("dense", summary.dense.overall.mean, 0.0), tabulate(summary).flops))

    def cost(pair: tuple[FrontPoint, float | None]) -> tuple[float, ...]:
        point, flops = pair
        # Masks of equal target sparsity may differ by one or two weights; that does not make a ticket sparser.
        return -point.accuracy, -round(point.achieved, 4), (flops or math.inf) if counts_work else 0.0

    return [point for point, _ in pareto_front(points, better=cost)]


def file_front(summary: RunSummary) -> list[CandidateFile]:
    """Return the measured artifacts that are Pareto-optimal in accuracy, size, p90 latency and memory."""
    candidates = [(candidate, candidate.coordinates) for candidate in map(candidate_of, summary.artifacts)]
    known = [(candidate, coordinates) for candidate, coordinates in candidates if coordinates is not None]
    return [candidate for candidate, _ in pareto_front(known, better=lambda pair: pair[1])]
