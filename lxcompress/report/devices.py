"""The section on other devices: what was measured on phones and other machines, one table for each."""

from __future__ import annotations

from lxcompress.analysis.artifacts import latency_ms
from lxcompress.analysis.devices import DeviceRow, read_device_rows
from lxcompress.analysis.summary import RunSummary
from lxcompress.measure.compare import Ratio
from lxcompress.report.page import DeviceTable


def device_tables(summary: RunSummary) -> list[DeviceTable]:
    """Return a table for each device on which files of the run were measured."""
    return [
        DeviceTable(
            name=rows[0].measurement.target or name,
            machine=rows[0].measurement.machine.system,
            rows=[device_cells(row) for row in rows],
            warnings=list(dict.fromkeys(doubt for row in rows for doubt in row.measurement.doubts)),
        )
        for name, rows in read_device_rows(summary.root).items()
    ]


def device_cells(row: DeviceRow) -> tuple[str, ...]:
    """Return the cells of a row: file, runtime, p50, p90 and p99 in ms, ratio, peak memory in MB."""
    measured = row.measurement
    latency = latency_ms(measured)
    threads = f"{measured.task.threads} thread{'' if measured.task.threads == 1 else 's'}"
    peak = "–" if measured.peak_bytes is None else f"{measured.peak_bytes / 1e6:.1f}"
    times = (f"{value:.3g}" for value in (latency.p50, latency.p90, latency.p99))
    return (measured.artifact, f"{measured.task.runtime}, {threads}", *times, _ratio_words(row.ratio), peak)


def _ratio_words(ratio: Ratio | None) -> str:
    """Return a ratio to the baseline with its 95 % interval."""
    if ratio is None:
        return "1"
    interval = "" if ratio.low is None else f" ({ratio.low:.2f}–{ratio.high:.2f})"
    return f"{ratio.value:.2f}{interval}"
