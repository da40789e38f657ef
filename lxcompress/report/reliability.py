"""The section on reliability: how sure the models are, how often they are wrong, and which answers pruning changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lxcompress.analysis.commands import reliability_command
from lxcompress.analysis.reliability import Reliability, measured_reliability
from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.words import plus_minus
from lxcompress.recipe import Method
from lxcompress.report.chart.drawing import ChartSize
from lxcompress.report.chart.keys import level_key, method_key
from lxcompress.report.chart.risk import RiskLine, risk_chart
from lxcompress.report.page import LegendKey, Panel, ReliabilitySection
from lxcompress.units import percent, short_percent

SIZE = ChartSize(350, 250)
MOST_LINES = 5
"""The most lines of the chart, with that of the dense model."""
COVERAGES = tuple(step / 50 for step in range(1, 51))


def reliability_section(summary: RunSummary, slots: Mapping[Method, int], picked: float | None) -> ReliabilitySection:
    """Return the section, with a table of all measured models and a chart of the drawn methods at one sparsity.

    That is the sparsity `picked`, or the middle one. `slots` is {drawn method: index of its look}.
    """
    rows = measured_reliability(summary)
    missing = not rows or any(row.missing for row in rows)
    drawn, target = _drawn(rows, slots, picked)
    return ReliabilitySection(
        rows=[(row.label, _cells(row)) for row in rows],
        panels=[_panel(drawn, slots, target)] if drawn else [],
        keys=[_key(row, slots) for row in drawn],
        command=reliability_command(summary.root) if missing else None,
    )


def _drawn(
    rows: Sequence[Reliability], slots: Mapping[Method, int], picked: float | None
) -> tuple[list[Reliability], float | None]:
    """Return the dense model and the drawn methods at one sparsity, and that sparsity."""
    groups = [row for row in rows if row.key is not None and row.key.method in slots and row.key.target]
    targets = sorted({row.key.target for row in groups if row.key is not None})
    if not targets:
        return [row for row in rows if row.key is None], None
    target = picked if picked in targets else targets[len(targets) // 2]
    shown = [row for row in groups if row.key is not None and row.key.target == target]
    return [*(row for row in rows if row.key is None), *shown][:MOST_LINES], target


def _panel(drawn: Sequence[Reliability], slots: Mapping[Method, int], target: float | None) -> Panel:
    """Return the chart of risk over coverage, as means over seeds."""
    lines = [RiskLine(_slot(row, slots), COVERAGES, [row.risk_at(share) for share in COVERAGES]) for row in drawn]
    words = "dense" if target is None else f"dense, and tickets at {short_percent(target)} % sparsity"
    risks = ", ".join(f"{row.label} {percent(row.risk_at(0.8), 1)} %" for row in drawn)
    return Panel("Risk over coverage", words, risk_chart(lines, f"Risk at 80 % coverage: {risks}", SIZE))


def _key(row: Reliability, slots: Mapping[Method, int]) -> LegendKey:
    """Return the entry of the legend for a line of the chart."""
    slot = _slot(row, slots)
    return LegendKey(level_key("dense") if slot is None else method_key(slot), row.label)


def _slot(row: Reliability, slots: Mapping[Method, int]) -> int | None:
    """Return the index of the look of a row's method; None for the dense model."""
    return None if row.key is None else slots[row.key.method]


def _cells(row: Reliability) -> list[str]:
    """Return the cells of a row of the table, in percent."""
    names = ("accuracy", "raw_calibration_error", "calibration_error", "area", "excess_area")
    change = row.changes.get("all")
    return [
        *(plus_minus(row.measures[name], 1) for name in names),
        *(plus_minus(row.measures[f"coverage_at_{risk}"], 1) for risk in (1, 5, 10)),
        percent(change.right_to_wrong, 1) if change else "–",
        percent(change.wrong_to_right, 1) if change else "–",
    ]
