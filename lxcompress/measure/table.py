"""The table of a bench, a row for each measurement, computed from the raw samples whenever it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lxcompress.measure.compare import Ratio, compare_all
from lxcompress.records import BenchRecord, Measurement
from lxcompress.stats import Percentiles, percentiles


@dataclass(frozen=True)
class BenchRow:
    """A measurement, its percentiles in seconds, and its ratio to the baseline; `ratio` is None for the baseline.

    `share` is the model's part of the time of an answer, 0-1; None unless the time of the region detector is known.
    """

    measurement: Measurement
    summary: Percentiles
    answers_per_s: float
    ratio: Ratio | None
    share: float | None


def read_rows(
    bench: BenchRecord, *, kept: BenchRecord | None = None, detector_s: float | None = None
) -> list[BenchRow]:
    """Return the rows of a bench, compared with its own baseline or with that of the saved bench `kept`.

    Raises MeasureError if `kept` was made on another machine.
    """
    ratios = compare_all(bench, kept)
    return [
        _make_row(measurement, ratio, detector_s) for measurement, ratio in zip(bench.measurements, ratios, strict=True)
    ]


def rows_json(bench: BenchRecord, rows: Sequence[BenchRow], *, detector_s: float | None = None) -> dict[str, Any]:
    """Return the record of the bench and its rows as a JSON document."""
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


def _make_row(measurement: Measurement, ratio: Ratio | None, detector_s: float | None) -> BenchRow:
    summary = percentiles(measurement.latency.values)
    share = None if detector_s is None else summary.p50 / (summary.p50 + detector_s)
    return BenchRow(measurement, summary, 1 / summary.mean, ratio, share)
