"""The section on the resources of a study: time, GPU hours, memory, utilisation and energy."""

from __future__ import annotations

from collections.abc import Callable

from lxcompress.analysis.summary import RunSummary
from lxcompress.analysis.usage import UsageTotals, own_runs, total_usage, usage_warnings
from lxcompress.report.page import Figure, ResourceSection
from lxcompress.units import GIGABYTE, WATT_HOUR, duration, energy, percent, significant, size_text


def resource_section(summary: RunSummary, totals: UsageTotals) -> ResourceSection:
    """Return the section on resources; only values that were counted have a figure and a column."""
    rows = [(group.key.label, "", group.usage) for group in summary.groups]
    own = own_runs(summary.recipe, summary.dense_runs)
    if own:
        rows.insert(0, ("dense", "base", total_usage(own)))
    rows.append(("total", "base", totals))
    columns = {name: cell for name, cell in COLUMNS.items() if cell(totals) is not None}
    return ResourceSection(
        figures=_figures(totals),
        columns=list(columns),
        rows=[(name, kind, [cell(usage) or "–" for cell in columns.values()]) for name, kind, usage in rows],
        warnings=usage_warnings(totals),
        has_usage=totals.peak_bytes is not None,
    )


def _figures(totals: UsageTotals) -> list[Figure]:
    """Return the totals of the study in large type."""
    figures = [Figure(duration(totals.duration_s), f"for {totals.runs} runs, {duration(totals.duration_each_s)} each")]
    if totals.gpu_s:
        figures.append(Figure(significant(totals.gpu_hours), f"GPU hours, {' and '.join(totals.gpus)}".rstrip(", ")))
    if totals.peak_bytes is not None:
        figures.append(Figure(size_text(totals.peak_bytes), "of GPU memory at most"))
    if totals.utilisation is not None:
        figures.append(Figure(f"{percent(totals.utilisation, 0)} %", "mean GPU utilisation"))
    if totals.energy_j is not None and totals.energy_each_j is not None:
        figures.append(Figure(energy(totals.energy_j), f"of energy, {energy(totals.energy_each_j)} a run"))
    return figures


def _scaled(value: float | None, scale: float) -> str | None:
    """Return a value divided by `scale`, as text; None if it is unknown."""
    return None if value is None else significant(value / scale)


COLUMNS: dict[str, Callable[[UsageTotals], str | None]] = {
    "runs": lambda totals: str(totals.runs),
    "time": lambda totals: duration(totals.duration_s),
    "time per run": lambda totals: duration(totals.duration_each_s),
    "peak memory, GB": lambda totals: _scaled(totals.peak_bytes, GIGABYTE),
    "utilisation": lambda totals: None if totals.utilisation is None else f"{percent(totals.utilisation, 0)} %",
    "energy, kWh": lambda totals: _scaled(totals.energy_j, 1000 * WATT_HOUR),
    "Wh per run": lambda totals: _scaled(totals.energy_each_j, WATT_HOUR),
}
"""Heading of a column -> the function that writes its cell for a group of runs; None was not counted."""
