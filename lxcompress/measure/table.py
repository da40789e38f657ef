"""What a bench says, a row for each measurement: derived from the raw samples whenever it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lxcompress.measure.compare import Ratio, compare_all
from lxcompress.records import BenchRecord, Measurement
from lxcompress.stats import Percentiles, percentiles


@dataclass(frozen=True)
class Row:
    """A measurement, its summary in seconds, and its ratio to the baseline; `share` is the model's part of an answer.

    `ratio` is None for the baseline itself; `share` (0-1) unless it is known how long the region detector takes.
    """

    measurement: Measurement
    summary: Percentiles
    answers_per_s: float
    ratio: Ratio | None
    share: float | None


def read_rows(bench: BenchRecord, *, kept: BenchRecord | None = None, detector_s: float | None = None) -> list[Row]:
    """The rows of a bench, in the order of its measurements, beside its own baseline or that of the bench `kept`.

    Raises MeasureError if `kept` was made on another machine.
    """
    ratios = compare_all(bench, kept)
    return [_row(each, ratio, detector_s) for each, ratio in zip(bench.measurements, ratios, strict=True)]


def rows_json(bench: BenchRecord, rows: Sequence[Row], *, detector_s: float | None = None) -> dict[str, Any]:
    """The record of the bench with its rows, as JSON has it."""
    return {
        "bench": bench.model_dump(mode="json"),
        "detector_s": detector_s,
        "rows": [
            {
                "artifact": row.measurement.artifact,
                "runtime": row.measurement.task.runtime,
                "threads": row.measurement.task.threads,
                "tokens": row.measurement.task.tokens,
                "p50_s": row.summary.p50,
                "p90_s": row.summary.p90,
                "p99_s": row.summary.p99,
                "mean_s": row.summary.mean,
                "spread": row.summary.spread,
                "answers_per_s": row.answers_per_s,
                "model_share": row.share,
                "ratio": asdict(row.ratio) if row.ratio else None,
            }
            for row in rows
        ],
    }


def _row(measurement: Measurement, ratio: Ratio | None, detector_s: float | None) -> Row:
    summary = percentiles(measurement.latency.values)
    share = None if detector_s is None else summary.p50 / (summary.p50 + detector_s)
    return Row(measurement, summary, 1 / summary.mean, ratio, share)
