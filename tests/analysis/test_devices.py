"""Laws of measurements from other devices.

They are kept apart from those of this machine. The newest of each file counts. `pick --device` uses one device alone.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from lxcompress.analysis.devices import measured_on, read_device_rows
from lxcompress.analysis.pick import pick_ticket
from lxcompress.analysis.rule import default_rule
from lxcompress.analysis.summary import summarise
from lxcompress.errors import RunError
from lxcompress.report.devices import device_tables
from lxcompress.report.html import render_html
from lxcompress.rundir import RunDir, read_run, sha256
from lxcompress.web.inbox import keep_measurement
from lxcompress.web.records import PageMeasurement
from tests.report.synthetic import recipe, write_artifact, write_bench, write_run
from tests.web.measured import make_measurement

CELL = "low-magnitude-weight-50-seed0"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with two files that were measured here, and on a phone."""
    run = write_run(tmp_path / "run", recipe())
    folders = [
        write_artifact(run, "dense-engine", cell=None, format="engine"),
        write_artifact(run, "low-engine", cell=CELL, format="engine"),
    ]
    write_bench(run, "bench", folders, latency_s=0.004)
    _send(run, *folders)
    return run


def _send(run: RunDir, *folders: Path, **changes: object) -> None:
    sent = make_measurement(*(sha256(folder / "artifact.json") for folder in folders), **changes)
    keep_measurement(PageMeasurement.model_validate(sent), run)


def test_a_device_has_its_own_table_and_this_machine_its_own(run: RunDir) -> None:
    summary = summarise(read_run(run.root))
    (table,) = device_tables(summary)
    assert table.name == "Pixel 8, Chrome"
    assert [row[:2] for row in table.rows] == [
        ("dense-engine", "engine-web, 1 thread"),
        ("low-engine", "engine-web, 1 thread"),
    ]
    assert [row[5] for row in table.rows] == ["1", "0.50 (0.50–0.50)"]
    assert {exported.fresh.target for exported in summary.artifacts if exported.fresh} == {None}
    page = render_html(summary, pick_ticket(summary, default_rule(summary)))
    assert page.count("Measured on Pixel 8, Chrome") == 1


def test_the_newest_measurement_of_a_file_counts(run: RunDir) -> None:
    low = run.artifacts / "low-engine"
    _send(run, low, started=datetime(2026, 2, 1, tzinfo=timezone.utc).isoformat())
    rows = read_device_rows(run.root)["Pixel-8-Chrome"]
    medians = {row.measurement.artifact: row.measurement.latency.values[0] for row in rows}
    assert medians == {"low-engine": 0.004, "dense-engine": 0.004}
    write_artifact(run, "low-engine", cell=CELL, format="engine", accuracy=0.7)
    assert [row.measurement.artifact for row in read_device_rows(run.root)["Pixel-8-Chrome"]] == ["dense-engine"]


@pytest.mark.parametrize("name", ["Pixel 8, Chrome", "pixel-8-chrome"])
def test_a_pick_on_a_device_uses_its_times(run: RunDir, name: str) -> None:
    summary = summarise(measured_on(read_run(run.root), name))
    found = {exported.name: exported for exported in summary.artifacts}
    assert found["low-engine"].latency_p90_ms == pytest.approx(2.07, abs=0.01)
    assert found["low-engine"].peak_mb == 4


def test_a_device_that_was_not_measured_is_one_sentence(run: RunDir) -> None:
    with pytest.raises(RunError, match="--device watch: was not measured, measured are: Pixel-8-Chrome; measure it"):
        measured_on(read_run(run.root), "watch")
